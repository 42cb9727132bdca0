"""Fixtures of the tests with Slurm: a cluster, a data set, and the results of an undisturbed run."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.datasets import make_dataset
from tests.entry_points.processes import ROOT
from tests.faults.outcome import read_outcome
from tests.pages import command
from tests.slurm.cluster import cluster, missing
from tests.slurm.jobs import output
from tests.slurm.training import ROWS, Run


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """A Slurm of two nodes, n1 and n2."""
    reason = missing()
    if reason:
        pytest.skip(f"Slurm cannot run here: {reason}")
    # pytest's own directories have names too long for sockets.
    with tempfile.TemporaryDirectory(prefix="slurm-") as directory, cluster(Path(directory) / "state"):
        yield


@pytest.fixture(scope="session")
def undisturbed(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on two nodes by plain srun, without interruptions."""
    where = _workplace(tmp_path_factory.mktemp("undisturbed"))
    run = Run(where, make_dataset(where / "data", rows=ROWS), {})
    words = command("slurm", "srun --nodes=2", DIR=run.data, RUN=run.out, MORE=run.options)
    said = output(where, *words)
    assert "| NE " in said
    return run


@pytest.fixture(scope="session")
def outcome(undisturbed: Run) -> dict[str, Any]:
    return read_outcome(undisturbed.out)


@pytest.fixture
def run(undisturbed: Run, outcome: dict[str, Any], tmp_path: Path) -> Run:
    """A run that has not started."""
    return Run(_workplace(tmp_path), undisturbed.data, outcome)


def _workplace(directory: Path) -> Path:
    """A directory to submit from, with the files that the commands name."""
    for name in ("components", "launch", ".torchxconfig"):
        (directory / name).symlink_to(ROOT / name)
    return directory
