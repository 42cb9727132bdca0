"""Generated logs of days: reproducible, each day extends the one before, and changes as the options say."""

import datetime
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.generated.change import Change, ChangingTruth
from data_prep.generated.day_options import DayOptions
from data_prep.generated.ground_truth import Distribution
from data_prep.synthetic import Options, generate, generate_days
from dlrm_mtl.data.new_ids import read_new_ids
from dlrm_mtl.schema import STREAM, Schema, read_schema
from tests.data_prep.generated.test_synthetic import contents, probabilities_row_by_row
from tests.entry_points.processes import python
from tests.messages import mentions, naming

SMALL = Distribution(cardinalities=(60, 300), multi_hot_cardinalities=(80,), mean_length=1.5, dense=2, users=400)
FAST = Change(drift=0.3, task_drift=0.1, new_items=0.2, half_life=2.0)
LOG = DayOptions(
    days=4, task_begins=("like=2024-01-03",), task_ends=("conversion=2024-01-02",), max_ids=120, change=FAST
)


def options(out: Path, **changes: object) -> Options:
    return Options(out, rows=700, seed=3, distribution=SMALL, log=replace(LOG, **changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Schema]]:
    """Four days whose tables are full on the second."""
    return list(generate_days(options(tmp_path_factory.mktemp("log"))))


def rows_of(directory: Path) -> pa.Table:
    return pq.read_table(directory / STREAM)


def values_by_id(directory: Path, table: str) -> dict[int, int]:
    values = pq.read_table(directory / "vocabulary" / f"{table}.parquet")["value"].to_pylist()
    return dict(enumerate(values, start=2))


def ids_of(directory: Path, feature: str) -> np.ndarray:
    column = rows_of(directory)[feature].combine_chunks()
    return np.asarray(column.flatten() if pa.types.is_list(column.type) else column)


def test_days_extend_each_other(log: list[tuple[Path, Schema]]) -> None:
    for number, (directory, schema) in enumerate(log):
        day = datetime.date(2024, 1, 1 + number)
        assert directory.name == str(day)
        assert read_schema(directory) == schema
        assert schema.rows(STREAM) == 700
        assert schema.period is not None
        assert schema.period.start == f"{day}T00:00:00"
        assert schema.period.stop == f"{day + datetime.timedelta(days=1)}T00:00:00"
        before = schema.continues.tables if schema.continues is not None else None
        assert before == (log[number - 1][1].fingerprints.tables if number else None)
        assert all(users[0].cardinality <= 120 for users in schema.tables.values())
    assert any(schema.continues is not None and schema.continues.reset for _, schema in log)


def test_a_longer_log_begins_with_the_shorter_and_keeps_it(log: list[tuple[Path, Schema]], tmp_path: Path) -> None:
    first_two = list(generate_days(options(tmp_path, days=2)))
    before = contents(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert list(generate_days(options(tmp_path)))[:2] == first_two
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert contents(tmp_path) == contents(log[0][0].parent)
    assert before.items() <= contents(tmp_path).items()


def test_a_log_with_other_options_is_not_continued(log: list[tuple[Path, Schema]]) -> None:
    out = log[0][0].parent
    with pytest.raises(ValueError, match=naming(log[0][0], "min_count", 1, 2)):
        list(generate_days(options(out, min_count=2, days=5)))
    with pytest.raises(ValueError, match=naming(log[0][0], "drift", 0.3, 0.1)):
        list(generate_days(options(out, change=replace(FAST, drift=0.1))))


def test_ids_that_begin_anew_are_those_that_the_day_before_did_not_know(log: list[tuple[Path, Schema]]) -> None:
    """Reading them as unseen equals encoding the day by the vocabulary of the day before."""
    changed = 0
    for (previous, _), (directory, schema) in pairwise(log):
        new_ids = read_new_ids(directory, schema)
        for feature in schema.categorical:
            now, before = (values_by_id(some, feature.name) for some in (directory, previous))
            ids_before = {value: id for id, value in before.items()}
            ids = ids_of(directory, feature.name).tolist()
            expected = [ids_before.get(now[id], 1) if id > 1 else id for id in ids]
            assert [1 if id in new_ids.get(feature.name, ()) else id for id in ids] == expected
            assert schema.source["unseen_before"][feature.name] == expected.count(1) / len(ids)
            changed += sum(id != before for id, before in zip(ids, expected, strict=True))
    assert changed > 100


def test_tasks_begin_and_end(log: list[tuple[Path, Schema]]) -> None:
    names = [schema.task_names for _, schema in log]
    assert names == [("click", "conversion"), ("click", "conversion"), ("click", "like"), ("click", "like")]
    assert "like" not in rows_of(log[0][0]).column_names


def test_bayes_ne_is_that_of_the_written_rows(log: list[tuple[Path, Schema]]) -> None:
    truth = ChangingTruth(SMALL, FAST, seed=3)
    for number in (0, 3):
        directory, schema = log[number]
        day, table = truth.on(number), rows_of(directory)
        # Rows whose ids all have a value: of the others, the data set does not tell the factors.
        raw, is_complete = {name: table[name] for name in schema.dense}, np.ones(len(table), bool)
        for feature, values in zip(schema.categorical, day.values, strict=True):
            numbers = {value: place for place, value in enumerate(values.tolist())}
            known = values_by_id(directory, feature.name)
            column = [
                [numbers.get(known.get(id, -1), -1) for id in (ids if feature.multi_hot else [ids])]
                for ids in table[feature.name].to_pylist()
            ]
            is_complete &= [-1 not in places for places in column]
            raw[feature.name] = pa.array(column if feature.multi_hot else [places[0] for places in column])
        click = np.asarray(table["click"])
        assert is_complete.sum() > 300
        part = pa.table(raw).filter(pa.array(is_complete))
        rows = day.rows(0, 1 << 14)
        assert rows.users is not None
        assert day.truth.users is not None
        effects = day.truth.users.effects[rows.users[:700]]
        plain = probabilities_row_by_row(day.truth, part)
        logits = np.log(plain) - np.log1p(-plain) + effects[is_complete]
        expected = 1 / (1 + np.exp(-logits))
        assert expected == pytest.approx(rows.probabilities[:700][is_complete], rel=1e-5)
        loss = -np.log(np.where(click == 1, rows.probabilities[:700, 0], 1 - rows.probabilities[:700, 0])).mean()
        rate = click.mean()
        entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
        assert schema.tasks[0].bayes_ne == pytest.approx(loss / entropy)


def test_users_of_earlier_days_are_known(log: list[tuple[Path, Schema]]) -> None:
    seen: set[int] = set()
    for directory, schema in log:
        assert [segment.values for segment in schema.segments] == [("known", "new")]
        table = rows_of(directory)
        users = table["cluster:user"].to_pylist()
        assert table["segment:user"].to_pylist() == [int(user not in seen) for user in users]
        seen.update(users)


def test_hashed_days_keep_the_meaning_of_ids(tmp_path: Path) -> None:
    days = list(generate_days(options(tmp_path, days=2, ids="hash", table_max_ids={"id_1": 40})))
    for directory, schema in days:
        assert {table: (known.method, known.size) for table, known in schema.fingerprints.tables.items()} == {
            "id_0": ("hash", 120),
            "id_1": ("hash", 40),
            "list_0": ("hash", 120),
        }
        assert read_new_ids(directory, schema) == {}
        assert 1 < ids_of(directory, "id_1").min() <= ids_of(directory, "id_1").max() < 40
        assert not (directory / "vocabulary").exists()


def test_factors_turn_as_fast_as_asked() -> None:
    drift, days = 0.2, 4
    truth = ChangingTruth(replace(SMALL, cardinalities=(4_000, 10)), Change(drift, 0.0, item_features=()), seed=1)
    first, later = (truth.on(day).truth.categorical[0].factors for day in (0, days))
    scale = (first**2).sum(axis=1)
    cosines = (first * later).sum(axis=1) / scale
    # The angles are normal with deviation drift * days.
    assert cosines.mean() == pytest.approx(math.exp(-((drift * days) ** 2) / 2), abs=0.03)
    still = ChangingTruth(SMALL, Change(0.0, 0.0, item_features=()), seed=1)
    assert still.on(days).truth.categorical[0].factors == pytest.approx(still.first.categorical[0].factors)
    assert still.on(days).truth.directions == pytest.approx(still.first.directions)


def test_tasks_turn_together() -> None:
    truth = ChangingTruth(SMALL, Change(0.0, 0.3, item_features=()), seed=1)
    covariance = sum(truth.first.side_covariances())
    first, later = truth.first.directions, truth.on(3).truth.directions
    assert later @ covariance @ later.T == pytest.approx(first @ covariance @ first.T)
    assert np.abs(later - first).max() > 0.1


def test_items_come_are_popular_and_fade() -> None:
    truth = ChangingTruth(SMALL, Change(0.0, 0.0, ("id_1",), new_items=0.1, half_life=3.0), seed=2)
    days = [truth.on(day) for day in range(6)]
    values = [set(day.values[1].tolist()) for day in days]
    arrivals = [len(now - before) for before, now in pairwise(values)]
    assert np.mean(arrivals) == pytest.approx(0.1 * 300, rel=0.1)
    assert len(set.union(*values)) == 300 + sum(arrivals)
    assert all((day.values[0] == days[0].values[0]).all() for day in days)
    shares = [
        np.bincount(day.truth.categorical[1].sample(np.random.default_rng(0), 50_000), minlength=300) for day in days
    ]
    before, after = (
        sum(shares[k + step][days[k].values[1] != days[k + 1].values[1]].sum() for k in range(5)) for step in (0, 1)
    )
    # The items that are replaced are 9 to 10 days old, and the new ones up to a day.
    assert after / before == pytest.approx(2 ** (9 / 3), rel=0.35)


def test_the_options_of_days_need_days(tmp_path: Path) -> None:
    for log in (
        DayOptions(max_ids=10),
        DayOptions(change=Change(drift=0.5)),
        DayOptions(task_ends=("like=2024-01-02",)),
    ):
        with pytest.raises(ValueError, match="days"):
            generate(Options(tmp_path / "out", log=log))


@pytest.mark.parametrize(
    ("log", "names"),
    [
        (DayOptions(days=-1), ("days", -1)),
        (DayOptions(days=2, ids="hash"), ("id_0", "max_ids")),
        (DayOptions(days=2, max_ids=2), ("id_0", "max_ids", 2)),
        (DayOptions(days=2, task_begins=("share=2024-01-02",)), ("task_begins", "'share'", "like")),
        (DayOptions(days=2, task_ends=("like=day 2",)), ("task_ends", "'like=day 2'")),
        (DayOptions(days=2, task_ends=("like=2024-01-02",) * 2), ("task_ends", "'like'")),
        (
            DayOptions(days=9, task_begins=("like=2024-01-05",), task_ends=("like=2024-01-04",)),
            ("'like'", "2024-01-04", "2024-01-05"),
        ),
        (
            DayOptions(days=3, task_ends=tuple(f"{task}=2024-01-02" for task in ("click", "like", "conversion"))),
            ("task_begins", "task_ends", "2024-01-03"),
        ),
        (DayOptions(days=2, change=Change(item_features=("id_7",))), ("item_features", "'id_7'", "list_0")),
        (DayOptions(days=2, change=Change(item_features=("id_0",))), ("item_features", "'id_0'", "users")),
        (DayOptions(days=2, change=Change(new_items=1.5)), ("new_items", 1.5)),
        (DayOptions(days=2, change=Change(half_life=0.0)), ("half_life", 0.0)),
        (DayOptions(days=2, change=Change(drift=-0.1)), ("drift", -0.1)),
    ],
)
def test_bad_options_are_named(tmp_path: Path, log: DayOptions, names: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=naming(*names)):
        list(generate_days(Options(tmp_path / "out", distribution=SMALL, log=log)))
    assert not (tmp_path / "out").exists()


def test_entry_point(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--days", "2", "--rows", "300", "--cardinalities", "50", "40", "--dense", "1"]
    arguments += ["--multi-hot-cardinalities", "30", "--task-begins", "like=2024-01-02"]
    result = python("data_prep.synthetic", *arguments)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert mentions(lines[0], tmp_path / "2024-01-01", 300, "click")
    assert mentions(lines[1], tmp_path / "2024-01-02", 300, "click", "like")
    refused = python("data_prep.synthetic", *arguments, "--eval-rows", "10")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert mentions(refused.stderr, "eval_rows", 10, "days")
