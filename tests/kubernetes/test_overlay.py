"""Overlays over the manifest of a job: what they change, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest
from torchx.runner import get_runner

from tests.entry_points.processes import ROOT, run
from tests.kubernetes.manifests import Manifest, dry_run, validate
from tests.messages import mentions, naming

DOCUMENT = ROOT / "docs/launching/kubernetes.md"
JOB = "components/train.py:train -j 2x8 --gpu 8 --image registry.example/dlrm-mtl:0.1"
OPTIONS = "-- --data /data --out /runs/a"


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    return tmp_path / "site.yaml"


def laid_over(overlay: Path, text: str, job: str = JOB) -> Manifest:
    overlay.write_text(text)
    manifest = dry_run(f"{job} --overlay {overlay} {OPTIONS}")
    validate(manifest)
    return manifest


def pods(manifest: Manifest) -> list[dict[str, Any]]:
    return [task["template"]["spec"] for task in manifest["spec"]["tasks"]]


def test_fields_of_job_pods_and_containers(overlay: Path) -> None:
    manifest = laid_over(
        overlay,
        """
        metadata: {labels: {team: ranking}}
        spec:
          priorityClassName: high
          ttlSecondsAfterFinished: 86400
          tasks:
            - template:
                metadata: {annotations: {example.com/scrape: "true"}}
                spec:
                  nodeSelector: {gpu: h200}
                  tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
                  imagePullSecrets: [{name: registry}]
                  securityContext: {fsGroup: 1000}
                  volumes: [{name: dshm, emptyDir: {sizeLimit: 64Gi}}]
                  containers:
                    - env:
                        - {name: AWS_SECRET_ACCESS_KEY, valueFrom: {secretKeyRef: {name: s3, key: secret}}}
                        - {name: OMP_WAIT_POLICY, $patch: delete}
                        - {name: LOGLEVEL, valueFrom: {configMapKeyRef: {name: logs, key: level}}}
                      resources: {requests: {cpu: null}}
            - {name: train-1, template: {spec: {schedulingGates: [{name: late}]}}}
        """,
    )
    before = dry_run(f"{JOB} {OPTIONS}")
    assert manifest["metadata"]["labels"] == {"team": "ranking"}
    assert manifest["spec"]["priorityClassName"] == "high"
    assert manifest["spec"]["ttlSecondsAfterFinished"] == 86400
    for pod, plain in zip(pods(manifest), pods(before), strict=True):
        assert pod["nodeSelector"] == {"gpu": "h200"}
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        assert pod["securityContext"] == {**plain["securityContext"], "fsGroup": 1000}
        assert pod["volumes"] == [{"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}}]
        [container], [of_plain] = pod["containers"], plain["containers"]
        environment = {variable["name"]: variable for variable in container["env"]}
        assert environment["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "s3", "key": "secret"}
        assert environment["LOGLEVEL"].keys() == {"name", "valueFrom"}
        names = {variable["name"] for variable in of_plain["env"]}
        assert environment.keys() == names - {"OMP_WAIT_POLICY"} | {"AWS_SECRET_ACCESS_KEY"}
        assert "cpu" not in container["resources"]["requests"]
        assert container["resources"]["limits"] == of_plain["resources"]["limits"]
        assert container["command"][:2] == of_plain["command"][:2]
    assert [pod.get("schedulingGates") for pod in pods(manifest)] == [None, [{"name": "late"}]]
    annotations = manifest["spec"]["tasks"][1]["template"]["metadata"]["annotations"]
    assert annotations == {"example.com/scrape": "true", "sidecar.istio.io/inject": "false"}


def test_the_documented_overlay(overlay: Path) -> None:
    _, example = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)
    manifest = laid_over(overlay, example)
    assert manifest["spec"]["priorityClassName"] == "training-high"
    assert all(pod["securityContext"]["fsGroup"] == 1000 for pod in pods(manifest))


def test_lists_and_mappings_are_replaced_on_request(overlay: Path) -> None:
    manifest = laid_over(
        overlay,
        """
        spec:
          tasks:
            - template:
                spec:
                  securityContext: {$patch: replace, runAsUser: 0}
                  volumes: [{name: dshm, hostPath: {path: /dev/shm}}]
                  containers:
                    - env: [{$patch: replace}, {name: A, value: b}]
                      command: [sleep, infinity]
        """,
    )
    for pod in pods(manifest):
        assert pod["securityContext"] == {"runAsUser": 0}
        assert pod["volumes"] == [{"name": "dshm", "hostPath": {"path": "/dev/shm"}}]
        [container] = pod["containers"]
        assert container["env"] == [{"name": "A", "value": "b"}]
        assert container["command"] == ["sleep", "infinity"]


def test_containers_beside_that_of_the_job(overlay: Path) -> None:
    """An item without a name is for the containers of the job, wherever it stands; YAML's anchors may be used."""
    manifest = laid_over(
        overlay,
        """
        spec:
          tasks:
            - template:
                spec:
                  volumes: [{name: scratch, emptyDir: {}}]
                  containers:
                    - {name: exporter, image: registry.example/exporter:1, resources: &small {limits: {cpu: 1}}}
                    - volumeMounts: [{name: scratch, mountPath: /scratch}]
                      resources: {<<: *small}
        """,
    )
    for pod in pods(manifest):
        own, exporter = pod["containers"]
        assert exporter == {
            "name": "exporter",
            "image": "registry.example/exporter:1",
            "resources": {"limits": {"cpu": 1}},
        }
        assert [mount["mountPath"] for mount in own["volumeMounts"]] == ["/dev/shm", "/scratch"]
        assert own["resources"]["limits"] == {**own["resources"]["limits"], "cpu": 1, "nvidia.com/gpu": "8"}
        assert [volume["name"] for volume in pod["volumes"]] == ["dshm", "scratch"]


def test_the_rights_of_pods(overlay: Path) -> None:
    """Devices for RDMA keep buffers in locked memory. Pods in their node's network ask the cluster for names."""
    for pod in pods(dry_run(f"{JOB} {OPTIONS}")):
        assert pod["securityContext"]["runAsNonRoot"]
        assert "dnsPolicy" not in pod
        context = pod["containers"][0]["securityContext"]
        assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    text = "spec: {tasks: [{template: {spec: {hostNetwork: true, containers: [{resources: {limits: {rdma/ib: 8}}}]}}}]}"
    for pod in pods(laid_over(overlay, text)):
        assert pod["dnsPolicy"] == "ClusterFirstWithHostNet"
        assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}


POD = "spec: {tasks: [{template: {spec: %s}}]}"
FIRST = "spec.tasks[0].template.spec"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("spec: {ttlSecondAfterFinished: 1}", ["spec.ttlSecondAfterFinished", "ttlSecondsAfterFinished"]),
        ("spec: {queue: A_b}", ["spec.queue", "'A_b'"]),
        ("spec: {ttlSecondsAfterFinished: soon}", ["spec.ttlSecondsAfterFinished", "'soon'", "integer"]),
        ("spec: {policies: [{event: PodLost, action: RestartJob}]}", ["spec.policies[0].event", "'PodLost'"]),
        (POD % "{toleration: []}", [f"{FIRST}.toleration", "tolerations"]),
        (POD % "{tolerations: {key: a}}", [f"{FIRST}.tolerations", "{'key': 'a'}", "array"]),
        (POD % "{tolerations: [{keys: a}]}", [f"{FIRST}.tolerations[0].keys", "key"]),
        (POD % "{hostNetwork: 'yes'}", [f"{FIRST}.hostNetwork", "'yes'", "boolean"]),
        (POD % "{containers: [{resources: {limits: {memory: lots}}}]}", ["resources.limits.memory", "'lots'", "64Gi"]),
        (POD % "{containers: [{ports: [{containerPort: many}]}]}", ["ports[0].containerPort", "'many'", "integer"]),
        (POD % "{volumes: [{emptyDir: {}}]}", [f"{FIRST}.volumes[0]", "name"]),
        (POD % "{containers: [{name: other}]}", ["other", "image"]),
        (POD % "{$patch: remove}", ["$patch", "'remove'", "replace or delete"]),
        ("spec: {tasks: [{name: train-2}]}", ["spec.tasks[2]", "replicas"]),
        (POD % "{containers: [null]}", [f"{FIRST}.containers[0]", "null"]),
        (POD % "{imagePullSecrets: [registry]}", [f"{FIRST}.imagePullSecrets[0]", "'registry'", "object"]),
        ("kind: Pod", ["kind", "'Pod'", "'Job'"]),
        ("tolerations: []", ["tolerations", "spec"]),
        ("spec: {queue: a, queue: b}", ["line 1", "'queue'", "twice"]),
        ("spec: {plugins: {1: []}}", ["line 1", "1", "string"]),
        ("? [a]\n: b", ["line 1", "string"]),
        ("spec: [", ["line 1"]),
        ("a: 1\n---\nb: 2", ["document"]),
        ("", ["None", "spec"]),
    ],
)  # fmt: skip
def test_wrong_overlays_are_refused(overlay: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ValueError, match=naming(str(overlay), *parts)):
        laid_over(overlay, text)


def test_secrets_are_references(overlay: Path) -> None:
    with pytest.raises(ValueError, match=naming("WANDB_API_KEY", "secretKeyRef")) as raised:
        dry_run(f"{JOB} --env WANDB_API_KEY=hidden {OPTIONS}")
    assert "hidden" not in str(raised.value)
    for value, part in (("hidden", "HF_TOKEN"), ("12345", "env[0].value")):
        with pytest.raises(ValueError, match=naming(part)) as raised:
            laid_over(overlay, POD % f"{{containers: [{{env: [{{name: HF_TOKEN, value: {value}}}]}}]}}")
        assert value not in str(raised.value)


def test_other_schedulers_refuse_an_overlay() -> None:
    name, *arguments = f"components/train.py:train --overlay site.yaml {OPTIONS}".split()
    with get_runner() as runner, pytest.raises(ValueError, match=naming("overlay", "Kubernetes")):
        runner.dryrun_component(name, arguments, "local_cwd")


def test_a_refusal_has_no_traceback_and_submits_nothing(overlay: Path) -> None:
    process = run("torchx", "run", "-s", "kubernetes", "--workspace=", *f"{JOB} --overlay {overlay} {OPTIONS}".split())
    assert process.returncode == 1
    assert mentions(process.stderr, overlay, "No such file")
    assert "Traceback" not in process.stderr
    assert process.stdout == ""
