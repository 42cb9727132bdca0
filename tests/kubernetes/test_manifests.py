"""Manifests for Kubernetes: valid, with the expected contents."""

import re
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from torchx import specs
from torchx.runner import get_runner

from dlrm_mtl.launching import resources
from tests.entry_points.processes import ROOT
from tests.kubernetes.manifests import VERSIONS, Manifest, dry_run, dry_run_of_command, validate
from tests.messages import naming
from tests.pages import blocks, command

DOCUMENT = ROOT / "docs/launching/kubernetes.md"
NETWORKS = ROOT / "docs/launching/networks.md"


def indented_commands(document: Path) -> list[str]:
    found = re.findall(r"^    (torchx run(?:.*\\\n)*.*)$", document.read_text(), flags=re.MULTILINE)
    return [" ".join(command.replace("\\\n", " ").split()) for command in found]


COMMANDS = indented_commands(DOCUMENT)
IMAGE = "--image registry.example/dlrm-mtl:0.1"
MOUNTS = "--mounts type=volume,src=rec-data,dst=/data,readonly,type=volume,src=rec-runs,dst=/runs"
COMPONENTS = {
    "train": f"components/train.py:train -j 2x8 --gpu 8 {IMAGE} {MOUNTS} --max_retries 3 -- --data /data --out /runs/a",
    "compare": f"components/compare.py:compare -j 2x8 --gpu 8 {IMAGE} {MOUNTS} --max_retries 3"
    " -- --data /data --out /runs/a",
    "experiments": f"components/experiments.py:experiments --study table3 -j 2x8 --gpu 8 {IMAGE} {MOUNTS}"
    " --max_retries 3 -- --data /data --out /runs/a",
    "criteo": f"components/prepare.py:prepare --source criteo -j 2x4 {IMAGE} {MOUNTS} --max_retries 3"
    " -- --raw /data --out /runs/a",
}


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return dry_run(COMPONENTS["train"])


def containers(manifest: Manifest) -> list[dict[str, Any]]:
    found = []
    for task in manifest["spec"]["tasks"]:
        [container] = task["template"]["spec"]["containers"]
        found.append(container)
    return found


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component(name: str) -> None:
    manifest = dry_run(COMPONENTS[name])
    validate(manifest)
    spec = manifest["spec"]
    assert (spec["queue"], spec["schedulerName"]) == ("training", "volcano")
    assert [(task["name"], task["replicas"]) for task in spec["tasks"]] == [(f"{name}-0", 1), (f"{name}-1", 1)]
    for task, container in zip(spec["tasks"], containers(manifest), strict=True):
        assert container["image"] == "registry.example/dlrm-mtl:0.1"
        resources = container["resources"]
        for kind in ("limits", "requests"):
            assert resources[kind].get("nvidia.com/gpu") == (None if name == "criteo" else "8")
            assert {"cpu", "memory"} <= resources[kind].keys()
        volumes = {volume["name"]: volume for volume in task["template"]["spec"]["volumes"]}
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert mounts.keys() == {"/dev/shm", "/data", "/runs"}
        assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"] == {"medium": "Memory"}
        for path, claim, read_only in (("/data", "rec-data", True), ("/runs", "rec-runs", False)):
            assert volumes[mounts[path]["name"]]["persistentVolumeClaim"] == {"claimName": claim}
            assert mounts[path]["readOnly"] == read_only
        assert task["maxRetry"] == spec["maxRetry"] == 3
        # Volcano follows the first that fits.
        assert task["policies"] == [
            {"exitCode": 2, "action": "TerminateJob"},
            {"event": "PodEvicted", "action": "RestartJob"},
            {"event": "PodFailed", "action": "RestartJob"},
        ]


def test_nodes_find_each_other(manifest: Manifest) -> None:
    first, second = containers(manifest)
    [port] = re.findall(r"\$\{VC_TRAIN_0_HOSTS:=localhost}:(\d+)", second["command"][2])
    for container in (first, second):
        shell, flag, script = container["command"]
        assert (shell, flag) == ("bash", "-c")
        assert "--nnodes 2 --nproc_per_node 8" in script
        assert script.endswith("-m dlrm_mtl.train --data /data --out /runs/a")
        # A single command replaces the shell, so that SIGTERM reaches torchrun.
        assert not re.search(r"[;&|]", script)
        assert [port["containerPort"] for port in container["ports"]] == [int(port)]
    assert {"name": "TORCHX_RANK0_HOST", "value": "localhost"} in first["env"]
    assert manifest["spec"]["plugins"].keys() == {"svc", "env"}
    assert [task["minAvailable"] for task in manifest["spec"]["tasks"]] == [1, 1]


def test_an_elastic_job_needs_its_least_nodes_alone() -> None:
    manifest = dry_run(COMPONENTS["train"].replace("2x8", "1:2x8"))
    validate(manifest)
    assert [task["minAvailable"] for task in manifest["spec"]["tasks"]] == [1, 0]
    # What is left of a job that is not started again goes on.
    alone = dry_run(COMPONENTS["train"].replace("2x8", "1:2x8").replace("--max_retries 3", ""))
    assert not any("policies" in task for task in alone["spec"]["tasks"])


def test_restarts_and_late_nodes_are_prepared_for(manifest: Manifest) -> None:
    for container in containers(manifest):
        assert " --max_restarts 3 --rdzv_conf join_timeout=900,read_timeout=900 " in container["command"][2]


def test_pods_have_longer_to_end_than_their_processes() -> None:
    manifest = dry_run(COMPONENTS["train"].replace("--max_retries 3", "--save_time 300"))
    validate(manifest)
    for task, container in zip(manifest["spec"]["tasks"], containers(manifest), strict=True):
        assert " --shutdown_timeout 300 " in container["command"][2]
        assert task["template"]["spec"]["terminationGracePeriodSeconds"] > 300
        assert task["policies"] == [{"event": "PodFailed", "action": "TerminateJob"}]


def test_lists_of_nccl_arrive_whole() -> None:
    variables = "NCCL_IB_HCA==mlx5_0:1,mlx5_1:1,NCCL_SOCKET_IFNAME=^lo,docker0,NCCL_DEBUG=WARN,EMPTY=''"
    for container in containers(dry_run(COMPONENTS["train"].replace("--mounts", f'--env "{variables}" --mounts'))):
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert environment["NCCL_IB_HCA"] == "=mlx5_0:1,mlx5_1:1"
        assert environment["NCCL_SOCKET_IFNAME"] == "^lo,docker0"
        assert (environment["NCCL_DEBUG"], environment["EMPTY"]) == ("WARN", "")


@pytest.mark.parametrize(("variables", "part"), [("NCCL_DEBUG", "'NCCL_DEBUG'"), ("a,B=1", "'a'"), ("1A=b", "'1A'")])
def test_wrong_variables_are_named(variables: str, part: str) -> None:
    with pytest.raises(ValueError, match=naming("env", part, "NAME=VALUE")):
        dry_run(f"components/train.py:train {IMAGE} --env {variables} -- --data /data --out /runs/a")


@pytest.mark.parametrize(("name", "devices"), [("h200x8_rdma", {"rdma/ib": "8"}), ("aws_p5en", {resources.EFA: "16"})])
def test_nodes_with_fast_networks(name: str, devices: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    # As an installation of the package registers them.
    monkeypatch.setitem(specs._named_resource_factories, name, getattr(resources, name))
    job = f"components/train.py:train -j 2x8 -h {name} {IMAGE} -- --data /data --out /runs/a"
    manifest = dry_run(job)
    validate(manifest)
    for container in containers(manifest):
        assert {"nvidia.com/gpu": "8", **devices}.items() <= container["resources"]["limits"].items()
        assert container["securityContext"]["capabilities"]["add"] == ["IPC_LOCK"]


def test_the_documented_nodes_and_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A site's own node, asked for by the page's command, with the page's overlay."""
    namespace: dict[str, Any] = {}
    [example] = blocks(NETWORKS, "python")
    exec(example, namespace)
    [registered] = blocks(NETWORKS, "toml")
    [name] = tomllib.loads(registered)["project"]["entry-points"]["torchx.named_resources"]
    monkeypatch.setitem(specs._named_resource_factories, name, namespace[name])
    monkeypatch.setitem(specs._named_resource_factories, "h200x8_rdma", resources.h200x8_rdma)
    [launch] = indented_commands(NETWORKS)
    [overlay] = blocks(NETWORKS, "yaml")
    (tmp_path / "site.yaml").write_text(overlay)
    manifest = dry_run_of_command(launch)
    validate(manifest)
    for container in containers(manifest):
        assert container["resources"]["limits"]["rdma/ib"] == "8"
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert environment["NCCL_IB_HCA"] == "=mlx5_0,mlx5_1"
    for own in (f"-h {name}", f"--gpu 8 --overlay {tmp_path}/site.yaml"):
        manifest = dry_run_of_command(launch.replace("-h h200x8_rdma", own))
        validate(manifest)
        for container in containers(manifest):
            assert int(container["resources"]["limits"]["rdma/rdma_shared_device_a"]) == 1
            assert container["securityContext"]["capabilities"]["add"] == ["IPC_LOCK"]


def test_lists_of_nccl_in_a_documented_slurm_job() -> None:
    name, *arguments = command("networks", "torchx run -s slurm")[6:]
    with get_runner() as runner:
        request = runner.dryrun_component(name, arguments, "slurm", cfg={"partition": "gpu"}).request
    for replica in request.replicas.values():
        assert "NCCL_IB_HCA==mlx5_0,mlx5_1" in replica.args
        assert "NCCL_IB_GID_INDEX=3" in replica.args


def test_what_a_cluster_refuses_is_found(manifest: Manifest) -> None:
    validate(manifest)
    job, task, pod, container = (deepcopy(manifest) for _ in range(4))
    job["spec"]["queu"] = "training"
    task["spec"]["tasks"][0]["policies"][0]["event"] = "PodLost"
    for wrong in (job, task):
        with pytest.raises(jsonschema.ValidationError):
            validate(wrong)
    pod["spec"]["tasks"][1]["template"]["spec"]["restartPolcy"] = "Never"
    container["spec"]["tasks"][0]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "many"
    for wrong in (pod, container):
        with pytest.raises(kubernetes_validate.ValidationError):
            validate(wrong)


@pytest.mark.parametrize("mounts", ["volume=rec-data", "src=rec-data,dst=/data", "type=disk,src=a,dst=/b"])
def test_wrong_mounts_are_named(mounts: str) -> None:
    with pytest.raises(ValueError, match=naming("mounts", f"'{mounts}'", "type=volume,src=CLAIM,dst=PATH")):
        dry_run(f"components/train.py:train {IMAGE} --mounts {mounts} -- --data /data --out /runs/a")


def test_there_are_documented_commands() -> None:
    assert len(COMMANDS) >= 3


@pytest.mark.parametrize("launch", COMMANDS, ids=range(len(COMMANDS)))
def test_documented_commands(launch: str) -> None:
    validate(dry_run_of_command(launch))


def test_the_documented_excerpt_is_the_manifest() -> None:
    excerpt, _ = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)
    shown = yaml.safe_load(excerpt)
    assert _within(shown, dry_run_of_command(COMMANDS[0]))


def _within(part: Any, whole: Any) -> bool:
    if isinstance(part, dict):
        return all(key in whole and _within(value, whole[key]) for key, value in part.items())
    if isinstance(part, list):
        return all(any(_within(item, other) for other in whole) for item in part)
    return bool(part == whole)


@pytest.fixture(scope="module")
def examples() -> list[Manifest]:
    return list(yaml.safe_load_all((ROOT / "launch/kubernetes.yaml").read_text()))


def test_the_example_of_queue_claims_and_policy(examples: list[Manifest]) -> None:
    for resource in examples:
        if resource["kind"] != "Queue":
            for version in VERSIONS:
                kubernetes_validate.validate(resource, version, strict=True)
    kinds = sorted(resource["kind"] for resource in examples)
    assert kinds == ["NetworkPolicy", "PersistentVolumeClaim", "PersistentVolumeClaim", "Queue"]


def test_the_policy_lets_the_pods_of_a_job_meet(examples: list[Manifest], manifest: Manifest) -> None:
    [policy] = [resource["spec"] for resource in examples if resource["kind"] == "NetworkPolicy"]
    [rule] = policy["ingress"]
    [peer], [ports] = rule["from"], rule["ports"]
    assert policy["podSelector"] == peer["podSelector"]
    for task in manifest["spec"]["tasks"]:
        assert policy["podSelector"]["matchLabels"].items() <= task["template"]["metadata"]["labels"].items()
        for port in task["template"]["spec"]["containers"][0]["ports"]:
            assert ports["port"] <= port["containerPort"] <= ports["endPort"]
    assert ports["protocol"] == "TCP"
