"""Peak memory does not depend on the size of the log."""

import re
from pathlib import Path

import pytest

from tests.entry_points.processes import python, run

COPIES = 20
BOUND_MIB = 320


@pytest.fixture(scope="module")
def large_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000,000 rows."""
    directory = tmp_path_factory.mktemp("logs")
    assert python("data_prep.criteo_log", "--out", directory / "once", "--rows", "100000").returncode == 0
    once = (directory / "once").read_bytes()
    with (directory / "day_0").open("wb") as file:
        for _ in range(COPIES):
            file.write(once)
    return directory / "day_0"


@pytest.mark.parametrize("ids", [["hash", "--max-ids", "100000"], ["vocabulary"]], ids=lambda options: options[0])
def test_peak_memory_is_bounded(large_log: Path, ids: list[str], tmp_path: Path) -> None:
    # The text alone exceeds the bound, and twice as much once it is parsed.
    assert large_log.stat().st_size > 1.4 * BOUND_MIB * 2**20
    process = run("python", "-m", "data_prep.criteo", "--raw", large_log, "--out", tmp_path / "out", "--ids", *ids)
    assert process.returncode == 0, process.stderr
    printed = re.search(r"peak memory: ([\d,]+) MiB", process.stdout)
    assert printed is not None
    assert int(printed[1].replace(",", "")) < BOUND_MIB
