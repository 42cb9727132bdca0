"""The TorchX components: what they launch, and a real launch."""

import inspect
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torchx.specs as specs
from torchx.components.component_test_base import ComponentTestCase
from torchx.runner import get_runner
from torchx.specs.builders import materialize_appdef
from torchx.specs.finder import get_component

from dlrm_mtl import components
from tests.entry_points.processes import ROOT, complaint, python, run
from tests.messages import mentions, naming
from tests.pages import command
from tests.streaming.small_days import make_days

COMPONENTS = ["compare", "evaluate", "experiments", "export", "predict", "prepare", "stream", "train"]
TRAINING = ["compare", "experiments", "stream", "train"]
REQUIRED = {
    "prepare": ["--raw", "D", "--out", "R"],
    "evaluate": ["--checkpoint", "C", "--data", "D", "--out", "R"],
    "export": ["--checkpoint", "C", "--out", "R"],
    "predict": ["--checkpoint", "C", "--data", "D", "--out", "R"],
}
"""Options without defaults; of the others, data and out."""


def component(name: str) -> Callable[..., specs.AppDef]:
    function: Callable[..., specs.AppDef] = get_component(f"{ROOT}/components/{name}.py:{name}").fn
    return function


class TestComponents(ComponentTestCase):
    """TorchX's own test of components: its linter, and the generated help."""

    def test_compare(self) -> None:
        self.validate(components, "compare")

    def test_evaluate(self) -> None:
        self.validate(components, "evaluate")

    def test_experiments(self) -> None:
        self.validate(components, "experiments")

    def test_export(self) -> None:
        self.validate(components, "export")

    def test_predict(self) -> None:
        self.validate(components, "predict")

    def test_prepare(self) -> None:
        self.validate(components, "prepare")

    def test_stream(self) -> None:
        self.validate(components, "stream")

    def test_train(self) -> None:
        self.validate(components, "train")


@pytest.mark.parametrize("name", [*TRAINING, "evaluate", "predict"])
def test_what_is_launched(name: str) -> None:
    options = REQUIRED.get(name, ["--data", "D", "--out", "R"])
    arguments = ["-j", "2x4", "--gpu", "4", "--env", "A=1", "--", *options]
    [role] = materialize_appdef(component(name), arguments).roles
    assert role.num_replicas == 2
    assert "--nproc_per_node 4" in role.args[1]
    study = "all " if name == "experiments" else ""
    assert f"-m dlrm_mtl.{name} {study}{' '.join(options)}" in role.args[1]
    assert role.resource.gpu == 4
    assert {"A": "1", "OMP_NUM_THREADS": "1"}.items() <= role.env.items()


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_parameter_is_in_the_manual(name: str) -> None:
    words = command("local", "torchx run -s local_cwd components/train.py:train --help")
    process = run(*(word.replace("train", name) for word in words))
    assert process.returncode == 0
    parameters = inspect.signature(getattr(components, name)).parameters.keys() - {"script_args"}
    assert {"j", "env", "image", "cpu", "memMB", "h", "max_retries", "rdzv_port"} <= parameters
    described = re.findall(r"^  (?:-\w \w+, )?--(\w+) ", process.stdout, flags=re.MULTILINE)
    assert set(described) - {"help"} == parameters
    assert f"python -m {'data_prep.criteo' if name == 'prepare' else f'dlrm_mtl.{name}'}" in " ".join(
        process.stdout.split()
    )


@pytest.mark.parametrize("name", COMPONENTS)
def test_nodes_of_a_slurm_job_meet_on_its_first(name: str) -> None:
    options = REQUIRED.get(name, ["--data", "D", "--out", "R"])
    arguments = ["-j", "2x1", "--rdzv_port", "29511", "--", *options]
    with get_runner() as runner:
        launched = runner.dryrun_component(
            f"{ROOT}/components/{name}.py:{name}", arguments, "slurm", cfg={"time": "60"}
        )
    script = launched.request.materialize()
    assert [line.split()[1:3] for line in script.splitlines() if line.startswith("#SBATCH --job-name")] == [
        [f"--job-name={'criteo' if name == 'prepare' else name}-{node}", "--requeue"] for node in range(2)
    ]
    assert script.count("--rdzv_endpoint ${SLURM_JOB_NODELIST_HET_GROUP_0:=localhost}:29511") == 2


def test_a_job_of_slurm_keeps_its_nodes() -> None:
    with get_runner() as runner, pytest.raises(ValueError, match=naming("1:2x4", "Slurm")):
        runner.dryrun_component(
            f"{ROOT}/components/train.py:train", ["-j", "1:2x4", "--", *["--data", "D", "--out", "R"]], "slurm"
        )


WRONG_ARMS = (
    *("multibalence", "multibalance:bta=1", "multibalance:beta=x", "multibalance:reduction=later", "mean:beta"),
    *("static:weights=0.5/x", "single_task:a=1", "torchjd:UPGrat", "docs.examples.own_method:UnitNorm:beta=1"),
)


@pytest.mark.parametrize("arm", WRONG_ARMS)
@pytest.mark.parametrize("name", ["train", "compare", "stream"])
def test_an_arm_that_cannot_be_built_is_not_launched(name: str, arm: str) -> None:
    arms = ["--arm", arm] if name == "train" else ["--arms", "mean", arm]
    with pytest.raises(ValueError, match=r"balancer|[Ww]eighting|beta|weights|no options|reduction"):
        materialize_appdef(component(name), ["-j", "1x2", "--", "--data", "D", "--out", "R", *arms])


def test_a_class_that_is_only_where_the_job_runs_is_launched_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    arm = "only_in_the_image.methods:Own:x=1"
    materialize_appdef(component("train"), ["-j", "1x2", "--", "--data", "D", "--out", "R", "--arm", arm])
    assert arm in capsys.readouterr().err


def test_a_data_set_that_is_seen_decides_what_arms_there_are(small_dataset: Path) -> None:
    """It has three tasks."""

    def launched(data: str | Path, arm: str) -> None:
        options = ["--data", str(data), "--out", "R", "--arms", "mean", arm]
        materialize_appdef(component("compare"), ["-j", "1x2", "--", *options])

    launched(small_dataset, "static:weights=0.5/0.3/0.2")
    launched("not here", "static:weights=0.5/0.5")
    with pytest.raises(ValueError, match="weights"):
        launched(small_dataset, "static:weights=0.5/0.5")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("experiments", ["--study", "table33", "--", "--data", "D", "--out", "R"], "study is 'table33'"),
        ("prepare", ["--source", "critio", "--", "--raw", "D", "--out", "R"], "source is 'critio'"),
        ("train", ["-j", "1y2", "--", "--data", "D", "--out", "R"], "1y2"),
        (
            "train",
            ["--", "--data", "D", "--out", "R", "--arm", "mgda:level=interaction", "--model.interaction", "dot"],
            "no parameters",
        ),
        ("compare", ["--", "--data", "D", "--out", "R", "--arms", "mean", "x" * 999], "xxx[.]{3}xxx"),
        ("train", ["-j", "1x3", "--", "--data", "D", "--out", "R"], "batch_size is 1024, expected a multiple of the 3"),
    ],
)
def test_what_is_wrong_with_a_launch_is_named(name: str, arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        materialize_appdef(component(name), arguments)


@pytest.mark.parametrize("source", ["criteo", "census_income", "ali_ccp", "parquet"])
def test_options_of_every_preparation_are_checked(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        materialize_appdef(component("prepare"), ["--source", source, "--", "--raw", "D", "--out", "R", "--idss", "x"])
    assert "--idss" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["compare", "experiments"])
def test_weights_of_other_tasks_are_not_launched(small_dataset: Path, name: str) -> None:
    options = ["--data", str(small_dataset), "--out", "R", "--task-weights", "click=1"]
    with pytest.raises(ValueError, match="'click', 'like', 'buy'"):
        materialize_appdef(component(name), ["-j", "1x2", "--", *options])


def test_a_refused_launch_ends_without_a_traceback(tmp_path: Path) -> None:
    process = run(
        "torchx", "run", "-s", "local_cwd", "-cfg", f"log_dir={tmp_path / 'logs'}", "components/train.py:train",
        "-j", "1x2", "--", "--data", tmp_path, "--out", tmp_path / "run", "--arm", "multibalence",
    )  # fmt: skip
    assert process.returncode == 1
    assert mentions(process.stderr, "'multibalence'", "mean, sum")
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "logs").exists()


def launch(component: str, logs: Path, more: str, **values: str | Path) -> None:
    """Runs the command of docs/launching/local.md."""
    words = command("local", f"torchx run -s local_cwd components/{component}.py", **values, MORE=more)
    process = run(*words[:4], "-cfg", f"log_dir={logs}", *words[4:])
    assert process.returncode == 0, process.stderr


def test_launched_by_torchx(small_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    more = "--batch-size 64 --seeds 1 --model.head-mlp 16"
    launch("compare", tmp_path / "logs", more, DIR=small_dataset, RUN=out)
    comparison: dict[str, Any] = json.loads((out / "comparison.json").read_text())
    assert list(comparison["arms"]) == ["mean", "multibalance"]
    assert json.loads((out / "environment.json").read_text())["world_size"] == 2
    [success] = (tmp_path / "logs").rglob("SUCCESS")
    assert success.is_file()


def test_what_is_launched_is_an_experiment(small_dataset: Path, tmp_path: Path) -> None:
    more = "--trials 1 --batch-size 64 --log-every 2 --max-steps 2 --model.head-mlp 8 --seeds 1"
    line = "torchx run -s local_cwd components/experiments.py"
    words = command("local", line, DIR=small_dataset, RUN=tmp_path / "run", MORE=more)
    at = words.index("components/experiments.py:experiments")
    [role] = materialize_appdef(component("experiments"), words[at + 1 :]).roles
    launched = shlex.split(role.args[1])
    assert launched[launched.index("--nproc_per_node") + 1] == "2"
    process = python(*launched[launched.index("-m", launched.index("--role")) + 1 :], processes=2)
    assert process.returncode == 0, process.stderr
    comparison = tmp_path / "run" / "search" / "comparison.json"
    assert json.loads(comparison.with_name("environment.json").read_text())["world_size"] == 2
    assert "mean" in json.loads(comparison.read_text())["arms"]


def test_what_is_launched_is_a_stream(tmp_path: Path) -> None:
    first, second = make_days(tmp_path, 2)
    words = command(
        "local",
        "torchx run -s local_cwd components/stream.py",
        FIRST=first,
        SECOND=second,
        RUN=tmp_path / "run",
        MORE="--seeds 1 --batch-size 50 --model.head-mlp 8 --publish multibalance",
    )
    [role] = materialize_appdef(component("stream"), words[words.index("components/stream.py:stream") + 1 :]).roles
    launched = shlex.split(role.args[1])
    process = python(*launched[launched.index("-m", launched.index("--role")) + 1 :], processes=2)
    assert process.returncode == 0, process.stderr
    comparison = tmp_path / "run" / "days" / "0001-b" / "comparison.json"
    assert list(json.loads(comparison.read_text())["arms"]) == ["mean", "multibalance"]
    published = sorted(str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").glob("published/*/*"))
    assert published == ["published/0000-a/full", "published/0001-b/delta"]
    process = python("dlrm_mtl.stream", "--data", second, first, "--out", tmp_path / "run")
    assert mentions(complaint(process), "stream", str(first), "2024-01-01", str(second), "2024-01-02")


def test_replicas_share_the_files_of_a_data_set(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    assert python("data_prep.criteo_log", "--out", logs, "--rows", "3000", "--files", "4").returncode == 0
    options = "--ids vocabulary --min-count 2"
    launch("prepare", tmp_path / "torchx", options, LOGS=logs, DIR=tmp_path / "two")
    alone: list[str | Path] = ["--raw", logs, *options.split(), "--out", tmp_path / "one"]
    assert python("data_prep.criteo", *alone).returncode == 0
    one, two = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (tmp_path / "one", tmp_path / "two")
    )
    assert len(one) == 4 + 26 + 3
    assert one == two


def test_a_failed_job_fails_the_launcher(tmp_path: Path) -> None:
    process = run(
        "torchx", "run", "-s", "local_cwd", "-cfg", f"log_dir={tmp_path / 'logs'}", "components/train.py:train",
        "-j", "1x1", "--restarts", "0", "--", "--data", tmp_path, "--out", tmp_path / "run",
    )  # fmt: skip
    assert process.returncode == 1
    logs = [path.read_text() for path in (tmp_path / "logs").rglob("stderr.log")]
    assert any(mentions(text, "train", "schema.json", "not found") for text in logs)
