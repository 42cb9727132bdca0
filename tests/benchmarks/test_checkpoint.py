"""The cost of checkpoints, from the command line to its results."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.benchmarks.windows import Spread
from tests.entry_points.processes import complaint, python, run

BENCH = "dlrm_mtl.bench"
SMALL = ["--batch-size", "64", "--windows", "3", "--seconds", "0.05"]


@pytest.mark.parametrize("processes", [1, 2])
def test_with_checkpoints_against_without(small_dataset: Path, tmp_path: Path, processes: int) -> None:
    disk, file = tmp_path / "disk", tmp_path / "checkpoint.json"
    disk.mkdir()
    paths: list[str | Path] = ["--data", small_dataset, "--directory", disk, "--json", file]
    process = python(BENCH, "checkpoint", *SMALL, *paths, processes=processes)
    assert process.returncode == 0, process.stderr
    assert "NOT written" not in process.stderr
    assert list(disk.iterdir()) == []
    results = json.loads(file.read_text())
    assert results["case"]["directory"] == str(disk)
    assert results["environment"]["world_size"] == processes

    def spread(*names: str) -> Spread:
        found: Any = results
        for name in names:
            found = found[name]
        return Spread(**found)

    lost = spread("lost_seconds", "total")
    assert lost == spread("window_seconds", "with").minus(spread("window_seconds", "without"))
    assert len(lost.windows) == results["checkpoints"] == 3
    assert spread("lost_seconds", "writing") == lost.minus(spread("lost_seconds", "copying"))
    assert spread("lost_seconds", "copying").p10 > 0
    assert spread("qps_loss_percent", "1").windows == pytest.approx([100 * seconds / 60 for seconds in lost.windows])
    assert spread("qps_loss_percent", "10").median == pytest.approx(lost.median / 6)
    assert 0 <= results["late"] <= 3
    assert results["steps_per_arm"] % 10 == 0
    # The weights of one head alone, with their moments under Adam, of two arms.
    assert results["checkpoint_bytes"] > 2 * 3 * 4 * 256 * 128

    assert process.stdout.count("A checkpoint per minute") == 1
    assert (
        f"costs {results['qps_loss_percent']['1']['median']:.2f} (3 windows) % of QPS; wanted: less than 2 %"
        in process.stdout
    )


def test_a_checkpoint_that_is_not_written_is_no_measurement(small_dataset: Path, tmp_path: Path) -> None:
    limited = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    program = f"{limited}; runpy.run_module({BENCH!r}, run_name='__main__')"
    process = run(sys.executable, "-c", program, "checkpoint", "--data", small_dataset, *SMALL, "--directory", tmp_path)
    assert complaint(process).endswith("was not written")
    assert "checkpoint NOT written" in process.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there(small_dataset: Path) -> None:
    process = python(BENCH, "checkpoint", "--data", small_dataset, "--directory", "nowhere")
    assert process.returncode == 2
    assert "directory is 'nowhere'" in process.stderr
    assert "Traceback" not in process.stderr
