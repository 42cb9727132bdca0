"""predict, from the command line: killed and started again; refused."""

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from dlrm_mtl.config import ModelConfig
from tests.datasets import make_dataset
from tests.distributed.training import run_config
from tests.entry_points.processes import ROOT, complaint, environment, python
from tests.messages import mentions
from tests.preloaded import ModuleProcess
from tests.ranks import RankPool
from tests.training.runs import side_by_side
from tests.waiting import wait_for

FILES = 20


@pytest.fixture(scope="module")
def options(rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of predictions of 1,280 rows in 20 files, one row at a time."""
    directory = tmp_path_factory.mktemp("predict")
    data = make_dataset(directory / "data", eval_rows=64 * FILES)
    config = run_config(data, out=directory / "run", max_steps=2, log_every=2, model=ModelConfig(head_mlp=(8,)))
    rank_pool.run(1, side_by_side, config, ["mean"], 0)
    required = ["--checkpoint", str(config.out), "--data", str(data), "--columns", "user", "click"]
    return [*required, "--batch-size", "1", "--rows-per-file", "64"]


def files_of(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (directory / "parts").glob("*.parquet")}


def strike(options: Sequence[str], out: Path, files: int, number: signal.Signals) -> tuple[int | None, str]:
    """Sends a signal once some files are there; exit code and last line on stderr."""
    process = ModuleProcess("dlrm_mtl.predict", [*options, "--out", str(out)], environment(), ROOT)
    parts = out.with_name(f"{out.name}.partial") / "parts"
    wait_for(
        lambda: len([*parts.glob("*.parquet")]) >= files, 60, lambda: str(files), lambda: process.poll() is not None
    )
    process.send_signal(number)
    _, errors = process.communicate(60)
    return process.returncode, errors.strip().rpartition("\n")[2]


def test_killed_predictions_go_on_and_end_with_the_same_files(options: list[str], tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    assert strike(options, out, 1, signal.SIGKILL)[0] == -signal.SIGKILL
    first = files_of(partial)
    assert 0 < len(first) < FILES
    code, line = strike(options, out, len(first) + 1, signal.SIGTERM)
    second = files_of(partial)
    assert (code, mentions(line, "predict", "SIGTERM", FILES - len(second))) == (143, True)
    assert first.items() <= second.items()
    assert len(first) < len(second) < FILES
    assert not out.exists()
    assert not [*(partial / "parts").glob(".*")]
    code, line = strike(options, out, len(second) + 1, signal.SIGINT)
    assert (code, line) == (130, "predict: interrupted")
    assert python("dlrm_mtl.predict", *options, "--out", out, processes=2).returncode == 0
    assert not partial.exists()
    assert python("dlrm_mtl.predict", *options, "--out", tmp_path / "undisturbed").returncode == 0
    assert files_of(out) == files_of(tmp_path / "undisturbed")
    assert second.items() <= files_of(out).items()
    assert (out / "predictions.json").read_bytes() == (tmp_path / "undisturbed" / "predictions.json").read_bytes()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (("--checkpoint", "nowhere"), ("nowhere", "checkpoint")),
        (("--columns", "visitor"), ("columns", "part-00000.parquet", "'visitor'", "user, item, history")),
    ],
)
def test_bad_values(options: list[str], tmp_path: Path, changes: tuple[str, ...], named: tuple[object, ...]) -> None:
    process = python("dlrm_mtl.predict", *options, "--out", tmp_path / "out", *changes)
    assert mentions(complaint(process), *named)
    assert not [*tmp_path.iterdir()]
