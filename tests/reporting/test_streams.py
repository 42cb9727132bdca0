"""stream.json and the report of a stream, from made-up days."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dlrm_mtl import report
from dlrm_mtl.continuation import Continuation, Period, ResetIds
from dlrm_mtl.files import write_json
from dlrm_mtl.meaning import TableFingerprint
from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.reporting.comparison import compare_seeds
from dlrm_mtl.reporting.streams.day_file import Seconds, read_day_file, write_day
from dlrm_mtl.reporting.streams.report import write_stream_report
from dlrm_mtl.reporting.streams.stream_file import StreamResults
from dlrm_mtl.schema import STREAM, Schema, Shard
from dlrm_mtl.statistics.over_days import change_per_day, mean_over_days
from tests.json_edits import edit, put
from tests.messages import naming
from tests.reporting.streams import ARMS, DAYS, ROWS, SEEDS, entropy, gain_of, positives_on, summary, write_stream_run
from tests.reporting.test_html import Page


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stream_run(tmp_path_factory.mktemp("stream") / "run")


@pytest.fixture(scope="module")
def stream(run: Path) -> Mapping[str, Any]:
    return StreamResults(run).write()


def gains(task: str, days: Sequence[int]) -> np.ndarray:
    return np.array([[gain_of(task, day, seed) for day in days] for seed in SEEDS])


def test_days_are_counted_and_described(stream: Mapping[str, Any]) -> None:
    assert [stream[f"{kind}_days"] for kind in ("trained", "evaluated", "skipped")] == [5, 4, 1]
    days = {day["name"]: day for day in stream["days"]}
    assert list(days) == list(DAYS)
    assert days["0002-c"]["skipped"] == "a shard is damaged"
    assert [day["new_tasks"] for day in stream["days"]] == [[], ["buy"], [], [], [], []]
    assert [name for name, day in days.items() if day["skipped"] is None and day["ended_tasks"]] == ["0004-e"]
    table = {"ids": 103, "new": 1, "recycled": 3, "capacity": None, "waiting": None}
    assert days["0003-d"]["tables"]["user"] == table
    assert days["0003-d"]["unseen_before"] == {"user": 0.25}
    assert days["0003-d"]["evaluation"]["buy"] == {"rows": ROWS, "positives": positives_on(3), "bayes_ne": None}
    assert days["0003-d"]["seconds"]["training"] == 12.0
    assert days["0003-d"]["arms"]["mean"]["qps"] == 1000.0


def test_a_task_has_no_metrics_on_its_first_day(stream: Mapping[str, Any]) -> None:
    first, second, *_ = stream["days"]
    for record in (first["arms"]["balanced"]["tasks"]["click"], second["arms"]["balanced"]["tasks"]["buy"]):
        assert record["ne"] is record["ne_gain_percent"] is None
        assert record["task_weight"] is not None
    assert second["arms"]["balanced"]["tasks"]["click"]["ne_gain_percent"]["mean"] == pytest.approx(
        gains("click", [1]).mean()
    )


def test_gains_are_averaged_over_a_tasks_own_days(stream: Mapping[str, Any]) -> None:
    tasks = stream["arms"]["balanced"]["tasks"]
    for task, days in (("click", [1, 3]), ("buy", [3, 4, 5])):
        found = tasks[task]["ne_gain_percent"]
        expected = gains(task, days)
        assert tasks[task]["days"] == len(days)
        assert found["mean"] == pytest.approx(expected.mean())
        assert found["covers"] == "seeds and days"
        for key, means in (("over_seeds", expected.mean(axis=1)), ("over_days", expected.mean(axis=0))):
            low, high = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
            assert (found[key]["low"], found[key]["high"]) == pytest.approx((low, high))
    by_day = [gains("click", [1]), (gains("click", [3]) + gains("buy", [3])) / 2, gains("buy", [4]), gains("buy", [5])]
    assert stream["arms"]["balanced"]["average_ne_gain_percent"]["mean"] == pytest.approx(np.mean(by_day))
    assert stream["arms"]["mean"]["tasks"]["click"]["ne_gain_percent"]["mean"] == 0


def test_the_change_of_a_gain_has_the_interval_of_a_regression(stream: Mapping[str, Any]) -> None:
    arm = stream["arms"]["balanced"]
    found = arm["tasks"]["buy"]["ne_gain_change_per_day"]
    line = stats.linregress([3, 4, 5], gains("buy", [3, 4, 5]).mean(axis=0))
    assert found["mean"] == pytest.approx(line.slope)
    assert found["over_days"]["high"] == pytest.approx(line.slope + stats.t.ppf(0.975, 1) * line.stderr)
    assert arm["tasks"]["click"]["ne_gain_change_per_day"] is None  # two days
    assert arm["average_ne_gain_change_per_day"] is None  # the tasks differ between days


def test_ne_over_days_is_that_of_all_rows(stream: Mapping[str, Any]) -> None:
    days = [3, 4, 5]
    rate = sum(map(positives_on, days)) / (ROWS * len(days))
    losses = [
        np.mean([(0.9 - gain_of("buy", day, seed) / 100) * entropy(positives_on(day) / ROWS) for day in days])
        for seed in SEEDS
    ]
    task = stream["arms"]["balanced"]["tasks"]["buy"]
    assert task["ne"] == pytest.approx(np.mean(losses) / entropy(rate))
    assert task["calibration"] == pytest.approx(1.1)
    assert task["task_weight"] == pytest.approx(0.175)


def test_the_change_of_speed_is_that_of_the_days(stream: Mapping[str, Any]) -> None:
    changes = np.array([100 * ((950 - day / 2) / 1000 - 1) for day in (0, 1, 3, 4, 5)])
    found = stream["arms"]["balanced"]["qps_change_percent"]
    low, high = stats.t.interval(0.95, 4, changes.mean(), stats.sem(changes))
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((changes.mean(), low, high))
    assert found["covers"] == "days"
    assert stream["arms"]["mean"]["qps_change_percent"] is None


def test_an_exploded_loss_leaves_no_mean(tmp_path: Path) -> None:
    run = write_stream_run(tmp_path / "run")
    for field in ("ne", "log_loss", "ne_gain_percent"):
        edit(run / "days" / "0004-e" / "seed-1.json", put("arms", "balanced", "tasks", "buy", field, None))
    tasks = StreamResults(run).write()["arms"]["balanced"]["tasks"]
    assert tasks["buy"]["exploded_days"] == ["0004-e"]
    assert tasks["buy"]["ne_gain_percent"] is tasks["buy"]["ne"] is None
    assert tasks["click"]["ne_gain_percent"] is not None


def test_a_day_is_read_once(tmp_path: Path) -> None:
    results = StreamResults(write_stream_run(tmp_path / "run"))
    before = results.write()
    (tmp_path / "run" / "days" / "0001-b" / "seed-0.json").unlink()
    assert results.write() == before
    with pytest.raises(ValueError, match=naming("0001-b", "seed-0.json")):
        StreamResults(tmp_path / "run").write()


@pytest.mark.parametrize(
    ("file", "value"),
    [
        ("days/0003-d/day.json", {}),
        ("days/0003-d/day.json", {"data_set": "x", "rows": "many", "tasks": []}),
        ("days/0003-d/seed-1.json", {"seed": 1, "arms": {}}),
        ("days/0003-d/seed-1.json", summary(1, 3, ["click"])),
        ("days/0003-d/seed-1.json", summary(1, 3, ["click", "buy"], evaluated=False)),
        ("days/0003-d/comparison.json", compare_seeds(["click"], [summary(0, 3, ["click"])], {})),
        ("config.json", {"arms": "mean"}),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, file: str, value: object) -> None:
    run = write_stream_run(tmp_path / "run")
    write_json(run / file, value)
    with pytest.raises(ValueError, match=naming(Path(file).name)):
        StreamResults(run).write()


def test_what_a_day_says_of_its_data_set(tmp_path: Path) -> None:
    reset = ResetIds("reset/user.parquet", 2, "0" * 64)
    schema = Schema(
        name="shop",
        categorical=(CategoricalFeature("user", 50), CategoricalFeature("friend", 50, table="user")),
        dense=(),
        tasks=(Task("click", "click", base_rate=0.1),),
        splits={STREAM: (Shard("stream/a.parquet", 7), Shard("stream/b.parquet", 5))},
        source={"unseen_before": {"user": 0.5}, "chain": {"capacities": {"user": 60}, "waiting": {"user": 9}}},
        period=Period("1", "2"),
        continues=Continuation("shop", {"user": TableFingerprint("vocabulary", 40, sha256="0" * 64)}, {"user": reset}),
    )
    write_day(tmp_path, schema, evaluated=["click"], seconds=Seconds(1.0, 2.0))
    facts = read_day_file(tmp_path / "day.json")
    assert facts["tables"] == {"user": {"ids": 50, "new": 10, "recycled": 2, "capacity": 60, "waiting": 9}}
    assert (facts["rows"], facts["unseen_before"], facts["period"]["start"]) == (12, {"user": 0.5}, "1")
    write_day(tmp_path, replace(schema, continues=None, source={}), skipped="a shard is damaged")
    first = read_day_file(tmp_path / "day.json")
    assert first["tables"] == {"user": {"ids": 50, "new": 50, "recycled": 0, "capacity": None, "waiting": None}}
    assert (first["skipped"], first["seconds"]) == ("a shard is damaged", None)


def test_days_before_the_first_is_over(tmp_path: Path) -> None:
    (tmp_path / "run" / "days" / "0000-a").mkdir(parents=True)
    run = write_stream_run(tmp_path / "run", {})
    with pytest.raises(ValueError, match=naming("days")):
        StreamResults(run).write()


def test_the_report_is_written_again_from_the_files(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "stream.json").unlink(missing_ok=True)
    monkeypatch.setattr(sys, "argv", ["report", str(run)])
    report.main()
    page = Page((run / "report.html").read_text())
    figures = {attributes["id"] for tag, attributes in page.elements if tag == "figure"}
    assert figures == {"ne", "gain", "calibration", "weights", "unseen", "tables", "recycled"}
    assert len(set(page.ids)) == len(page.ids)
    assert (run / "stream.json").is_file()
    markdown = (run / "report.md").read_text()
    assert all(name in markdown for name in (*ARMS, "click", "buy", "a shard is damaged"))
    monkeypatch.setattr(sys, "argv", ["report", str(run), "--control", "balanced", "--out", str(run / "other")])
    with pytest.raises(ValueError, match=naming(run.name)):
        report.main()


@pytest.mark.parametrize("days", [1, 2, 20])
def test_any_number_of_days_has_a_report(tmp_path: Path, days: int) -> None:
    tasks = {f"{number:04}-day": (["click"], ["click"] if number else []) for number in range(days)}
    run = write_stream_run(tmp_path / "run", tasks)
    assert write_stream_report(StreamResults(run))
    page = Page((run / "report.html").read_text())
    assert ("gain" in page.ids) == (days > 1)


def test_effects_of_one_seed_and_of_one_day() -> None:
    values = np.array([[1.0, 2.0, 4.0]])
    mean = mean_over_days(values)
    assert (mean.seeds_freedom, mean.rows_freedom) == (0, 2)
    assert mean.rows_error == pytest.approx(stats.sem(values[0]))
    assert mean_over_days(values[:, :1]).mean == 1.0
    assert mean_over_days(values.T).interval() is None  # one day, three seeds
    assert change_per_day(values[:, :2], np.array([0, 3])) is None
    slope = change_per_day(values, np.array([0, 1, 3]))
    assert slope is not None
    assert slope.mean == pytest.approx(stats.linregress([0, 1, 3], values[0]).slope)
