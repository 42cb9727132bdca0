"""train, from the command line to its logs."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlrm_mtl.distributed.saved_model import read_model
from tests.entry_points.processes import ROOT, complaint, environment, python
from tests.messages import mentions

OPTIONS = ["--batch-size", "64", "--log-every", "4", "--model.head-mlp", "16", "--optimizer.table-lr", "0.04"]


@pytest.mark.parametrize("processes", [0, 2])
def test_trains_and_evaluates(small_dataset: Path, tmp_path: Path, processes: int) -> None:
    out = tmp_path / "run"
    process = python(
        "dlrm_mtl.train", "--data", small_dataset, "--out", out, *OPTIONS, "--epochs", "3", "--model.levels", "3",
        processes=processes,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("model.levels=3") == 1  # which a shared bottom does not read
    assert "| click " in process.stdout
    result = json.loads((out / "result.json").read_text())
    click = result["arms"]["multibalance"]["tasks"]["click"]
    assert click["rows"] == 200
    assert click["ne"] < 1
    lines = [json.loads(line) for line in (out / "multibalance" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 27
    assert json.loads((out / "config.json").read_text())["epochs"] == 3
    assert mentions(process.stdout, "3 tables", "3 table_wise (fused)")
    assert mentions(process.stdout.split("| click ")[0], "WARNING", 27, 100)
    assert mentions(process.stdout.split("| click ")[1], "WARNING", 27, 100)
    weights = read_model(out / "checkpoints" / "step-00000027")
    assert weights["embedding_bags.embedding_bags.item.weight"].shape[1] == 16
    assert "dense_part.heads.heads.task_click.0._linear.weight" in weights


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--arm", "pcgrd"), ("pcgrd",)),
        (("--model.relation", "esm2"), ("model.relation=esm2", "through", "schema.json")),
        (("--model.sharing", "ple", "--model.expert-mlp", "1048576", "1048576"), ("336 TiB", "GiB", "sharing")),
    ],
)
def test_bad_values(small_dataset: Path, tmp_path: Path, options: tuple[str, ...], named: tuple[object, ...]) -> None:
    process = python("dlrm_mtl.train", "--data", small_dataset, "--out", tmp_path / "run", *options)
    assert mentions(complaint(process), *named)
    assert not (tmp_path / "run").exists()


def test_unknown_option(small_dataset: Path, tmp_path: Path) -> None:
    process = python("dlrm_mtl.train", "--data", small_dataset, "--out", tmp_path / "run", "--epcohs", "2")
    assert process.returncode == 2
    assert "--epcohs" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_rank_that_lets_the_first_speak_ends_with_the_code_of_its_error(tmp_path: Path) -> None:
    rank = subprocess.Popen(
        [sys.executable, "-m", "dlrm_mtl.train", "--data", tmp_path, "--out", tmp_path / "run", "--epochs", "-1"],
        cwd=ROOT, env={**environment(), "RANK": "1"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not _catches(rank.pid, signal.SIGTERM):
        assert rank.poll() is None
        time.sleep(0.01)
    rank.terminate()
    assert rank.communicate()[1] == ""
    assert rank.returncode == 2


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    [mask] = [
        line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:")
    ]
    return bool(int(mask, 16) >> number - 1 & 1)
