"""Interrupted runs of the entry points continue when the same command is given again."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.datasets import make_dataset
from tests.entry_points.processes import ROOT, environment, python
from tests.messages import mentions
from tests.preloaded import ModuleProcess

OPTIONS = (
    *("--batch-size", "48", "--log-every", "5", "--model.head-mlp", "16", "--arms", "mean", "multibalance"),
    *("--seeds", "2", "--checkpoint.every-minutes", "0.0001"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "data", rows=2400)


def compare(data: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return python("dlrm_mtl.compare", "--data", data, "--out", out, *OPTIONS, *options)


def without_speed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_speed(part) for key, part in value.items() if key not in ("qps", "end_to_end_qps")}
    return [without_speed(part) for part in value] if isinstance(value, list) else value


def logs(out: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(out)): [without_speed(json.loads(line)) for line in path.read_text().splitlines()]
        for path in sorted(out.rglob("metrics.jsonl"))
    }


def test_a_comparison_goes_on_within_a_seed(data: Path, tmp_path: Path) -> None:
    plain, out = tmp_path / "plain", tmp_path / "stopped"
    assert compare(data, plain).returncode == 0
    process = ModuleProcess("dlrm_mtl.compare", ["--data", str(data), "--out", str(out), *OPTIONS], environment(), ROOT)
    while not list(out.glob("seed-1/checkpoints/step-*")):
        assert process.poll() is None, "it should not end by itself"
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said = "".join(process.communicate(60))
    assert process.returncode == 143
    assert "Traceback" not in said
    resumed = compare(data, out, "--timeout-s", "77", "--checkpoint.keep", "1")
    assert resumed.returncode == 0, resumed.stderr
    assert mentions(resumed.stdout, "seed 0", "finished before")
    assert f"{out}/seed-1/checkpoints/step-" in resumed.stdout
    for name in ("comparison.json", "seed-0.json", "seed-1.json"):
        expected, found = (without_speed(json.loads((path / name).read_text())) for path in (plain, out))
        assert found == expected, name
    for name in ("seed-0.npz", "seed-1.npz"):
        assert (out / name).read_bytes() == (plain / name).read_bytes(), name
    assert logs(out) == logs(plain)
    assert len(logs(out)) == 4
    assert not list(out.rglob("checkpoints")), "of finished seeds none are kept"
    starts = [json.loads(line) for line in (out / "starts.jsonl").read_text().splitlines()]
    assert [(start["seed"], start["step"] > 0) for start in starts] == [(0, False), (1, False), (1, True)]
    assert starts[-1]["changed_options"] == {"checkpoint.keep": 1, "timeout_s": 77}
    recorded = json.loads((out / "environment.json").read_text())
    assert recorded.items() <= starts[0].items()
    windows = [len(arm["qps"]) for arm in json.loads((out / "seed-1.json").read_text())["arms"].values()]
    assert windows == [8, 8], "10 windows, a warm-up at the start and one after the restart"


def test_a_finished_training_gives_its_result_again(data: Path, tmp_path: Path) -> None:
    options: list[str | Path] = ["--data", data, "--out", tmp_path / "run", *OPTIONS[:6]]
    options += ["--checkpoint.every-steps", "20"]
    first = python("dlrm_mtl.train", *options)
    result, log = (tmp_path / "run/result.json").read_text(), logs(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["step-00000040", "step-00000050"]
    again = python("dlrm_mtl.train", *options)
    assert first.returncode == again.returncode == 0, again.stderr
    assert (tmp_path / "run/result.json").read_text() == result
    assert logs(tmp_path / "run") == log
    assert "at step 50 of 50" in again.stdout


def test_a_checkpoint_that_is_not_there_is_named_at_once(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", "--init-from", tmp_path / "nothing")
    process = python("dlrm_mtl.train", *options)
    assert process.returncode == 2
    assert process.stderr == (
        f"train: {tmp_path}/nothing/checkpoint.json: not found;"
        " a checkpoint is a directory RUN/checkpoints/step-N with one\n"
    )
    assert not (tmp_path / "run").exists()
