"""Comparisons of separate jobs, joined or refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.files import write_json
from dlrm_mtl.metrics.estimates import Estimates
from dlrm_mtl.metrics.estimates_file import write_estimates
from dlrm_mtl.metrics.evaluation import EvaluationEstimates
from dlrm_mtl.reporting.runs.join import join_runs
from dlrm_mtl.reporting.runs.report_data import Record, ReportData, read_run
from tests.messages import naming
from tests.reporting.estimates import drawn_estimates
from tests.reporting.runs import summarized, write_run

SHARD = {"split": "train", "file": "train/part-00000.parquet", "rows": 10, "bytes": 100, "sha256": "aa"}


def seed(number: int, arms: dict[str, float], speed: float = 1000.0) -> dict[str, Any]:
    """A seed in which both tasks of an arm have an NE that drifts with the seed, but not their difference alone."""
    values = {arm: (ne + 0.01 * number, ne - 0.001 * number * index) for index, (arm, ne) in enumerate(arms.items())}
    return summarized(number, values, speed=speed)


def join(*directories: Path, control: str | None = None, task_weights: Sequence[str] = ()) -> Record:
    return join_runs([read_run(directory) for directory in directories], control, task_weights)


def gain(comparison: Record, arm: str, task: str = "click") -> float:
    return float(comparison["arms"][arm]["tasks"][task]["ne_gain_percent"]["mean"])


def test_a_single_run_is_what_it_was(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", [seed(0, {"mean": 0.9, "x": 0.8}), seed(1, {"mean": 0.9, "x": 0.8})])
    expected = json.loads((run / "comparison.json").read_text())
    assert join(run) == expected
    for file in run.glob("seed-*.json"):
        file.unlink()
    assert join(run) == expected


def test_seeds_are_joined(tmp_path: Path) -> None:
    seeds = [seed(number, {"mean": 0.9, "x": 0.8}) for number in range(3)]
    whole = write_run(tmp_path / "whole", seeds)
    first, second = write_run(tmp_path / "a", seeds[2:]), write_run(tmp_path / "b", seeds[:2])
    joined, expected = join(first, second), join(whole)
    assert joined == {**expected, "planned_seeds": [2], "added_seeds": joined["added_seeds"]}
    assert joined["added_seeds"]["x"]["seeds"] == [0, 1]


def test_arms_are_joined_each_against_the_control_of_its_own_run(tmp_path: Path) -> None:
    """The second job ran on a machine ten times as fast, with a slightly different control."""
    first = write_run(tmp_path / "a", [seed(n, {"mean": 0.9, "x": 0.8}) for n in range(2)])
    second = write_run(tmp_path / "b", [seed(n, {"mean": 0.91, "y": 0.8, "z": 0.7}, speed=10_000) for n in range(2)])
    joined = join(first, second)
    assert joined["control"] == "mean"
    assert list(joined["arms"]) == ["mean", "x", "y", "z"]
    assert [gain(joined, arm) for arm in joined["arms"]] == pytest.approx([0, 10, 11, 21])
    changes = [arm["qps"]["change_percent"]["median"] for arm in joined["arms"].values()]
    assert changes == pytest.approx([0, -10, -10, -20])
    assert joined["arms"]["mean"]["tasks"]["click"]["ne"] == pytest.approx(0.905)


def test_arms_may_have_other_seeds(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", [seed(n, {"mean": 0.9, "x": 0.8}) for n in range(3)])
    second = write_run(tmp_path / "b", [seed(5, {"mean": 0.9, "y": 0.8})])
    joined = join(first, second)
    assert [arm["seeds"] for arm in joined["arms"].values()] == [[0, 1, 2, 5], [0, 1, 2], [5]]
    assert joined["intervals"] == (
        "of 1 arm for other seeds on these evaluation rows; of 1 arm for these models on other evaluation rows"
    )
    assert joined["arms"]["y"]["tasks"]["click"]["ne_gain_percent"]["low"] == pytest.approx(9.9)


def test_another_control(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", [seed(n, {"mean": 0.9, "x": 0.8, "y": 0.75}) for n in range(2)])
    joined = join(run, control="x")
    assert list(joined["arms"]) == ["x", "mean", "y"]
    assert [gain(joined, arm) for arm in joined["arms"]] == pytest.approx([0, -10, 5])
    assert [gain(joined, arm, "buy") for arm in joined["arms"]] == pytest.approx([0, -10.05, 5.05])
    assert joined["arms"]["mean"]["qps"]["change_percent"]["median"] == pytest.approx(100 / 0.9 - 100)


def test_an_explosion_has_no_gain_over_another_control(tmp_path: Path) -> None:
    seeds = [summarized(n, {"mean": (0.9, 0.9), "x": (0.8, 0.8), "y": (0.7, None)}) for n in range(2)]
    joined = join(write_run(tmp_path / "a", seeds), control="x")
    assert joined["arms"]["y"]["tasks"]["buy"]["ne_gain_percent"] is None
    assert joined["arms"]["y"]["average_ne_gain_percent"] is None
    assert gain(joined, "y") == pytest.approx(10)


def test_how_the_work_was_done_may_differ(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", [seed(0, {"mean": 0.9, "x": 0.8})], shards=[SHARD])
    second = write_run(
        *(tmp_path / "b", [seed(1, {"mean": 0.9, "x": 0.8})]),
        config={"timeout_s": 60, "data": "/elsewhere", "model": {"interaction": "dot", "sharing": "bottom"}},
        shards=[SHARD],
    )
    assert join(first, second)["arms"]["x"]["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"config": {"batch_size": 128}}, "batch_size is 128, expected 64 as in"),
        ({"config": {"model": {"interaction": "dcn"}}}, "model.interaction is 'dcn', expected 'dot' as in"),
        ({"config": {"data": "runs/other"}}, "data is 'runs/other', expected 'runs/data' as in"),
        ({"shards": [{**SHARD, "sha256": "bb"}]}, "data.json: train/part-00000.parquet is not the same as in"),
        ({"tasks": ("click", "like")}, "its tasks are ['click', 'like'], expected ['click', 'buy'] as in"),
    ],
)
def test_other_data_or_options_are_refused(tmp_path: Path, other: dict[str, Any], message: str) -> None:
    shards = [SHARD] if "shards" in other else None
    first = write_run(tmp_path / "a", [seed(0, {"mean": 0.9, "x": 0.8})], shards=shards)
    nes = {"mean": (0.9, 0.9), "x": (0.8, 0.8)}
    second = write_run(tmp_path / "b", [summarized(1, nes, other.get("tasks", ("click", "buy")))], **other)
    with pytest.raises(ValueError, match="/b") as error:
        join(first, second)
    assert message in str(error.value)


def test_tasks_are_weighed_as_in_the_runs_or_otherwise(tmp_path: Path) -> None:
    seeds = [summarized(n, {"mean": (0.9, 0.9), "x": (0.8, 0.9 - 0.01 * n)}) for n in range(2)]
    shares = {"click": 0.25, "buy": 0.75}
    first, second = (
        write_run(tmp_path / name, [one], task_weights=shares) for name, one in zip("ab", seeds, strict=True)
    )
    joined = join(first, second)
    assert (joined["task_weights"], joined["reweighed"]) == (shares, False)
    assert joined["arms"]["x"]["average_ne_gain_percent"]["mean"] == pytest.approx(0.25 * 10 + 0.75 * 0.5)
    other = join(first, second, task_weights=["buy=1", "click=9"])
    assert other["task_weights"] == pytest.approx({"click": 0.9, "buy": 0.1})
    assert other["reweighed"]
    assert other["arms"]["x"]["average_ne_gain_percent"]["mean"] == pytest.approx(0.9 * 10 + 0.1 * 0.5)
    assert other["arms"]["x"]["tasks"] == joined["arms"]["x"]["tasks"]
    with pytest.raises(ValueError, match="task_weights names"):
        join(first, task_weights=["buy=1"])


def test_a_single_run_is_weighed_otherwise(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", [summarized(n, {"mean": (0.9, 0.9), "x": (0.8, 0.9)}) for n in range(2)])
    average = join(run, task_weights=["click=1", "buy=3"])["arms"]["x"]["average_ne_gain_percent"]
    assert average["mean"] == pytest.approx(2.5)
    for file in run.glob("seed-*.json"):
        file.unlink()
    with pytest.raises(ValueError, match=naming("a/seed-0.json", "not found")):
        join(run, task_weights=["click=1", "buy=3"])


def test_jobs_that_weigh_tasks_otherwise_are_refused(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", [seed(0, {"mean": 0.9, "x": 0.8})])
    second = write_run(tmp_path / "b", [seed(1, {"mean": 0.9, "x": 0.8})], task_weights={"click": 0.25, "buy": 0.75})
    with pytest.raises(ValueError, match=naming("b/comparison.json", "task_weights", "0.75", "0.5")):
        join(first, second)
    assert join(first, second, task_weights=["click=1", "buy=1"])["reweighed"]


def kept(run: Path, seed: int, arms: Sequence[str], buckets: int = 50, influence: float = 1e-6) -> None:
    """Writes a seed-S.npz in which every arm has its own error."""
    generator = np.random.default_rng(seed)
    nes = json.loads((run / f"seed-{seed}.json").read_text())["arms"]
    write_estimates(
        run / f"seed-{seed}.npz",
        {
            arm: EvaluationEstimates(
                {
                    "ne": Estimates(
                        np.array([task["ne"] for task in nes[arm]["tasks"].values()]),
                        influence * generator.normal(size=(buckets, 2)),
                    )
                },
                {},
            )
            for arm in arms
        },
    )


def test_seeds_of_all_jobs_are_judged_by_their_rows(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(n), [seed(n, {"mean": 0.9, "x": 0.8})]) for n in range(2)]
    for n, run in enumerate(runs):
        kept(run, n, ["mean", "x"], influence=1e-2)
    gains = join(*runs)["arms"]["x"]["tasks"]["click"]["ne_gain_percent"]
    assert gains["covers"] == "seeds and rows"
    width = gains["over_rows"]["high"] - gains["over_rows"]["low"]
    # The seeds' errors here are independent, so that two have less than one.
    assert width == pytest.approx(2 * 2.01 * 100 * 1e-2 * np.sqrt(50) * np.sqrt(2) / np.sqrt(2), rel=0.3)
    (runs[1] / "seed-1.npz").unlink()
    assert join(*runs)["arms"]["x"]["tasks"]["click"]["ne_gain_percent"]["covers"] == "seeds"


def test_rows_in_other_buckets_are_refused(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(n), [seed(n, {"mean": 0.9, "x": 0.8})]) for n in range(2)]
    for n, run in enumerate(runs):
        kept(run, n, ["mean", "x"], buckets=50 + n)
    with pytest.raises(ValueError, match=naming("1/seed-1.npz", "buckets", "0/seed-0.npz")):
        join(*runs)


def test_rows_of_other_clusters_are_refused(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(n), [seed(n, {"mean": 0.9, "x": 0.8})]) for n in range(2)]
    for n, run in enumerate(runs):
        kept(run, n, ["mean", "x"])
    comparison = json.loads((runs[1] / "comparison.json").read_text())
    write_json(runs[1] / "comparison.json", {**comparison, "clusters": "user_id"})
    with pytest.raises(ValueError, match=naming("1/comparison.json", "clusters", "'user_id'", "independent")):
        join(*runs)


def test_what_two_runs_have_in_common_is_refused(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", [seed(0, {"mean": 0.9, "x": 0.8})])
    second = write_run(tmp_path / "b", [seed(0, {"mean": 0.9, "x": 0.8})])
    with pytest.raises(ValueError, match=naming("b", "arm 'x'", "seed 0", "a")):
        join(first, second)


def test_a_control_that_a_run_lacks_is_refused(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", [seed(0, {"mean": 0.9, "x": 0.8})])
    second = write_run(tmp_path / "b", [seed(0, {"sum": 0.9, "y": 0.8})])
    with pytest.raises(ValueError, match=r"/b: has no arm 'mean', the control; its arms: sum, y"):
        join(first, second)


def test_one_seed_has_no_interval_against_another_control(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", [seed(0, {"mean": 0.9, "x": 0.8})])
    with pytest.raises(ValueError, match=r"expected two seeds or more for intervals against 'x'"):
        join(run, control="x")


def test_one_seed_has_an_interval_against_another_control_if_its_rows_were_kept(tmp_path: Path) -> None:
    nes = {"mean": (0.9, 0.9), "x": (0.8, 0.85)}
    run = write_run(tmp_path / "a", [summarized(0, nes)])
    write_estimates(run / "seed-0.npz", drawn_estimates(nes, error=0.001))
    of_task = join(run, control="x")["arms"]["mean"]["tasks"]["click"]["ne_gain_percent"]
    assert (of_task["mean"], of_task["covers"]) == (pytest.approx(-10), "rows")
    assert of_task["high"] - of_task["mean"] == pytest.approx(0.1 * 1.9623, rel=1e-3)


def test_rows_are_covered_across_jobs(tmp_path: Path) -> None:
    """Each arm's error over rows is against the control of its own job."""
    directories = []
    for index, arm in enumerate(("x", "y")):
        nes = {"mean": (0.9, 0.9), arm: (0.8, 0.85)}
        directories.append(write_run(tmp_path / arm, [summarized(n, nes) for n in range(2)]))
        for n in range(2):
            write_estimates(directories[-1] / f"seed-{n}.npz", drawn_estimates(nes, error=0.001 * (index + 1)))
    joined = join(*directories)
    assert joined["intervals"] == "for other seeds and other evaluation rows"
    for index, arm in enumerate(("x", "y")):
        over_rows = joined["arms"][arm]["tasks"]["buy"]["ne_gain_percent"]["over_rows"]
        assert over_rows["high"] - 5 == pytest.approx(0.1 * (index + 1) * 1.9623, rel=1e-3)


def test_without_the_seeds_there_is_nothing_to_join(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", [seed(0, {"mean": 0.9, "x": 0.8})])
    second = write_run(tmp_path / "b", [seed(0, {"mean": 0.9, "y": 0.8})])
    (second / "seed-0.json").unlink()
    with pytest.raises(ValueError, match=r"/b/seed-0\.json: not found"):
        join(first, second)


def test_a_directory_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"comparison\.json: not found"):
        read_run(tmp_path)


def test_speed_end_to_end_is_paired_with_the_control_of_the_arms_own_run(tmp_path: Path) -> None:
    """A run of an earlier version has none."""
    first, second = (seed(0, {"mean": 0.9, name: 0.8}) for name in ("x", "y"))
    for speed, arm in zip((100.0, 90.0), second["arms"].values(), strict=True):
        arm["end_to_end_qps"] = [speed]
    joined = join_runs([read_run(write_run(tmp_path / name, [one])) for name, one in (("a", first), ("b", second))])
    assert joined["arms"]["x"]["end_to_end_qps"] is None
    assert joined["arms"]["y"]["end_to_end_qps"]["change_percent"]["median"] == pytest.approx(-10)


def test_a_broken_log_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", [seed(0, {"mean": 0.9, "x": 0.8})], windows=2)
    log = run / "seed-0" / "x" / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step":')
    with pytest.raises(ValueError, match=naming("seed-0/x/metrics.jsonl", "line 3", "JSON")):
        read_run(run)


def test_curves_are_those_of_the_first_run_that_has_them(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", [seed(0, {"mean": 0.9, "x": 0.8})], windows=2)
    second = write_run(tmp_path / "b", [seed(0, {"mean": 0.9, "y": 0.8})], windows=3)
    runs = [read_run(first), read_run(second)]
    data = ReportData.of(runs, join_runs(runs))
    assert data.name == "shop"
    assert [[len(windows) for windows in data.windows(arm)] for arm in data.arms] == [[2], [2], [3]]


def test_a_name_is_found_where_none_is_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", [seed(0, {"mean": 0.9, "x": 0.8})])
    comparison = json.loads((run / "comparison.json").read_text())
    del comparison["data_set"]
    write_json(run / "comparison.json", comparison)
    assert ReportData.of([read_run(run)], comparison).name == "data"
