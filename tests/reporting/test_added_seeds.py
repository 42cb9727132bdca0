"""Joined seeds outside the plan, and the report's note on them."""

from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.reporting.markdown import format_comparison
from dlrm_mtl.reporting.runs.join import join_runs
from dlrm_mtl.reporting.runs.report_data import Record, read_run
from dlrm_mtl.reporting.words.trust import on_trust
from tests.messages import mentions
from tests.reporting.runs import summarized, write_run

EARLY, LATE = "2026-01-02T03:04:05+00:00", "2026-01-03T03:04:05+00:00"


def job(directory: Path, seeds: range, arm: str = "x", **options: Any) -> Path:
    gains = [summarized(seed, {"mean": (0.9, 0.9), arm: (0.8, 0.89 - 0.001 * seed)}) for seed in seeds]
    return write_run(directory, gains, **options)


def join(*runs: Path) -> Record:
    return join_runs([read_run(run) for run in runs])


def test_seeds_of_a_later_job_were_added(tmp_path: Path) -> None:
    """The plan is that of the first job to begin, in any order of arguments."""
    first, later = job(tmp_path / "a", range(3), began=EARLY), job(tmp_path / "b", range(3, 5), began=LATE)
    for joined in (join(first, later), join(later, first)):
        assert joined["planned_seeds"] == [0, 1, 2]
        [(arm, added)] = joined["added_seeds"].items()
        assert (arm, added["seeds"], added["looks"]) == ("x", [3, 4], [3, 5])
        assert 0.05 < added["error_rate"] < 0.1
        [sentence] = [text for text in on_trust(joined) if "not planned" in text]
        assert mentions(sentence, "x", "seeds 3 and 4", "not planned")
        assert f"up to {100 * added['error_rate']:.1f} % of comparisons" in sentence
        assert sentence in format_comparison(joined)


def test_seeds_that_were_planned_together_are_no_addition(tmp_path: Path) -> None:
    runs = [job(tmp_path / str(n), range(n, n + 1), planned=range(3)) for n in range(3)]
    joined = join(*runs)
    assert (joined["planned_seeds"], joined["added_seeds"]) == ([0, 1, 2], {})
    assert not any("planned" in sentence.lower() for sentence in on_trust(joined))
    part = join(*runs[:2])
    assert part["added_seeds"] == {}
    assert any(mentions(sentence, "Planned", "seed 2") for sentence in on_trust(part))


def test_another_arm_is_no_added_seed(tmp_path: Path) -> None:
    joined = join(job(tmp_path / "a", range(2), began=EARLY), job(tmp_path / "b", range(2), "y", began=LATE))
    assert joined["added_seeds"] == {}


def test_more_looks_do_more(tmp_path: Path) -> None:
    runs = [job(tmp_path / str(n), range(2 * n, 2 * n + 2), began=f"2026-01-0{n + 1}") for n in range(4)]
    rates = [join(*runs[:count])["added_seeds"]["x"]["error_rate"] for count in (2, 3, 4)]
    assert rates == sorted(rates)
    assert join(*runs)["added_seeds"]["x"]["looks"] == [2, 4, 6, 8]


@pytest.mark.parametrize("weights", [["click=1", "buy=1"], ["click=2", "buy=1"]])
def test_other_weights_are_said(tmp_path: Path, weights: list[str]) -> None:
    run = read_run(job(tmp_path / "a", range(2)))
    joined = join_runs([run], None, weights)
    assert joined["reweighed"] == (weights[0] == "click=2")
    assert any("task weights" in text for text in on_trust(joined)) == joined["reweighed"]
