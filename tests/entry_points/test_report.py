"""report, from run directories to a page."""

import json
import sys
from pathlib import Path

import pytest

from tests.entry_points.processes import python, run
from tests.messages import mentions
from tests.reporting.runs import summarized, write_run

REPORT = "dlrm_mtl.report"


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two jobs with a common control."""
    return (
        write_run(tmp_path / "a", [summarized(n, {"mean": (0.9, 0.9), "x": (0.8, 0.9 + n)}) for n in range(2)]),
        write_run(tmp_path / "b", [summarized(n, {"mean": (0.9, 0.9), "y": (0.7, 0.8 + n)}) for n in range(2)]),
    )


def test_two_jobs_are_joined(runs: tuple[Path, Path], tmp_path: Path) -> None:
    process = python(REPORT, *runs, "--out", tmp_path / "joined", "--pareto", "buy", "click")
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert "| y " in process.stdout
    comparison = json.loads((tmp_path / "joined" / "comparison.json").read_text())
    assert list(comparison["arms"]) == ["mean", "x", "y"]
    page = (tmp_path / "joined" / "report.html").read_text()
    assert mentions(page, "Pareto view", "buy", "click")
    assert "2 runs, joined" in page
    assert (tmp_path / "joined" / "report.md").is_file()


def test_a_run_is_rendered_again_where_it_is(runs: tuple[Path, Path]) -> None:
    before = (runs[0] / "comparison.json").read_text()
    process = python(REPORT, runs[0])
    assert process.returncode == 0, process.stderr
    assert (runs[0] / "report.html").is_file()
    assert (runs[0] / "comparison.json").read_text() == before


def test_it_needs_no_torch() -> None:
    code = "import sys, dlrm_mtl.reporting.html, dlrm_mtl.reporting.runs.join; print('torch' in sys.modules)"
    assert run(sys.executable, "-c", code).stdout == "False\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["A", "B"], "out is None, expected a directory, to join several runs"),
        (["A", "--control", "x"], "out is None, expected a directory, to compare with another control"),
        (["A", "B", "--out", "A"], "a directory that holds no run"),
        (["A", "A", "--out", "C"], "expected different directories"),
        ([], "expected at least one run directory"),
        (["C"], "comparison.json: not found"),
        (["A", "--pareto", "buy", "sell"], "--pareto names task 'sell', expected one of click, buy"),
        (["A", "B", "--out", "C", "--control", "z"], "has no arm 'z', the control; its arms: mean, x"),
    ],
)
def test_bad_options(runs: tuple[Path, Path], tmp_path: Path, options: list[str], message: str) -> None:
    places = {"A": runs[0], "B": runs[1], "C": tmp_path / "c"}
    process = python(REPORT, *(places.get(option, option) for option in options))
    assert process.returncode == 2
    # The parser prints errors in a box.
    assert message in " ".join(process.stderr.replace("│", " ").split())
    assert not (tmp_path / "c" / "report.html").exists()
