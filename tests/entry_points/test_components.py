"""The TorchX components: what they launch, and a real launch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torchx.specs as specs
from torchx.specs.builders import materialize_appdef
from torchx.specs.finder import get_component

from tests.entry_points.processes import ROOT, run

COMPONENTS = ["compare", "experiments", "train"]


def component(name: str) -> Callable[..., specs.AppDef]:
    function: Callable[..., specs.AppDef] = get_component(f"{ROOT}/components/{name}.py:{name}").fn
    return function


@pytest.mark.parametrize("name", COMPONENTS)
def test_what_is_launched(name: str) -> None:
    arguments = ["-j", "2x4", "--gpu", "4", "--env", "A=1", "--", "--data", "D", "--out", "R"]
    [role] = materialize_appdef(component(name), arguments).roles
    assert role.num_replicas == 2
    assert "--nproc_per_node 4" in role.args[1]
    study = "all " if name == "experiments" else ""
    assert f"-m dlrm_mtl.{name} {study}--data D --out R" in role.args[1]
    assert role.resource.gpu == 4
    assert {"A": "1", "OMP_NUM_THREADS": "1"}.items() <= role.env.items()


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_component_lints_and_documents_itself(name: str) -> None:
    component(name)
    process = run("torchx", "run", "-s", "local_cwd", f"components/{name}.py:{name}", "--help")
    assert process.returncode == 0
    for option in ("--j", "--gpu", "--memMB", "--max_retries", "--rdzv_port", "--env", "--image"):
        assert option in process.stdout


def test_launched_by_torchx(small_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = run(
        "torchx", "run", "-s", "local_cwd", "-cfg", f"log_dir={tmp_path / 'logs'}", "components/compare.py:compare",
        "-j", "1x2", "--", "--data", small_dataset, "--out", out, "--batch-size", "64", "--seeds", "1",
        "--arms", "mean", "multibalance", "--model.head-mlp", "16",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    comparison: dict[str, Any] = json.loads((out / "comparison.json").read_text())
    assert list(comparison["arms"]) == ["mean", "multibalance"]
    assert json.loads((out / "environment.json").read_text())["world_size"] == 2
    [success] = (tmp_path / "logs").rglob("SUCCESS")
    assert success.is_file()


def test_replicas_share_the_files_of_a_data_set(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    assert run("python", "-m", "data_prep.criteo_log", "--out", logs, "--rows", "3000", "--files", "4").returncode == 0
    options: list[str | Path] = ["--raw", logs, "--ids", "vocabulary", "--min-count", "2"]
    process = run(
        "torchx", "run", "-s", "local_cwd", "-cfg", f"log_dir={tmp_path / 'torchx'}", "components/prepare.py:prepare",
        "-j", "1x2", "--source", "criteo", "--", *options, "--out", tmp_path / "two",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert run("python", "-m", "data_prep.criteo", *options, "--out", tmp_path / "one").returncode == 0
    one, two = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (tmp_path / "one", tmp_path / "two")
    )
    assert len(one) == 4 + 26 + 2
    assert one == two


def test_a_failed_job_fails_the_launcher(tmp_path: Path) -> None:
    process = run(
        "torchx", "run", "-s", "local_cwd", "-cfg", f"log_dir={tmp_path / 'logs'}", "components/train.py:train",
        "-j", "1x1", "--restarts", "0", "--", "--data", tmp_path, "--out", tmp_path / "run",
    )  # fmt: skip
    assert process.returncode == 1
    logs = [path.read_text() for path in (tmp_path / "logs").rglob("stderr.log")]
    assert any("train: " in text and "schema.json: not found" in text for text in logs)
