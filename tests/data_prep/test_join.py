"""Data sets of periods as one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.ids.vocabulary import UNSEEN_ID
from data_prep.join import Options, join
from data_prep.output.continued import Continued
from data_prep.output.writer import DatasetWriter
from dlrm_mtl.continuation import Period
from dlrm_mtl.meaning import Fingerprints, TableFingerprint
from dlrm_mtl.schema import STREAM, read_schema
from tests.datasets import CATEGORICAL, DENSE, FINGERPRINTS, TASKS, make_table
from tests.entry_points.processes import python
from tests.messages import naming

ROWS = 300


def meaning(day: int) -> Fingerprints:
    """Each day appends five users."""
    user = TableFingerprint("vocabulary", 50 + 5 * day, sha256=f"{day}" * 64)
    return Fingerprints({**FINGERPRINTS.tables, "user": user}, FINGERPRINTS.dense)


def write_day(directory: Path, day: int, tasks: Sequence[int] = (0, 1, 2), reset: Sequence[int] = ()) -> Path:
    """A day of rows of which some have the users 50, 51, ... and 3."""
    table = make_table(ROWS, seed=day)
    users = np.asarray(table["user"]).copy()
    users[::10] = 50 + np.arange(len(users[::10])) % (5 * day) if day else 3
    table = table.set_column(0, "user", pa.array(users))
    sizes = {feature.name: feature for feature in CATEGORICAL}
    sizes["user"] = replace(sizes["user"], cardinality=50 + 5 * day)
    with DatasetWriter(
        directory,
        "small",
        list(sizes.values()),
        DENSE,
        [TASKS[task] for task in tasks],
        fingerprints=meaning(day),
        splits=[STREAM],
    ) as writer:
        writer.write(STREAM, table)
        writer.finish(
            source={},
            period=Period(f"2024-01-0{day + 1}", f"2024-01-0{day + 2}"),
            continued=Continued("small", meaning(day - 1).tables, {"user": np.array(reset, np.int64)}) if day else None,
        )
    return directory


def read(directory: Path, split: str) -> pa.Table:
    tables = [pq.read_table(directory / shard.file) for shard in read_schema(directory).splits[split]]
    return pa.concat_tables(table.select(tables[0].column_names) for table in tables)


def test_some_days_train_and_the_next_one_evaluates(tmp_path: Path) -> None:
    days = [write_day(tmp_path / f"{day}", day, tasks) for day, tasks in enumerate([(0, 1, 2), (0, 2, 1), (0, 2)])]
    result = python("data_prep.join", "--train", *days[:2], "--eval", days[2], "--out", tmp_path / "joined")
    assert result.returncode == 0, result.stderr
    schema, last = read_schema(tmp_path / "joined"), read_schema(days[1])
    assert schema.meaning == last.meaning
    assert schema.task_names == ("click", "buy")
    assert schema.rows("train") == 2 * ROWS

    train, evaluated = read(tmp_path / "joined", "train"), read(tmp_path / "joined", "eval")
    rows = [read(day, STREAM) for day in days]  # whose labels stand in the order of the day's tasks
    names = train.column_names
    assert train.equals(pa.concat_tables([rows[0].select(names), rows[1].select(names)]))
    assert schema.tasks[0].base_rate == np.asarray(train["click"]).mean()
    assert schema.tasks[1].base_rate == np.asarray(train["buy"])[np.asarray(train["click"]) == 1].mean()
    users, expected = np.asarray(evaluated["user"]), np.asarray(rows[2]["user"]).copy()
    assert (expected >= 55).any()
    expected[expected >= 55] = UNSEEN_ID
    assert (users == expected).all()
    others = [name for name in rows[2].column_names if name != "user"]
    assert evaluated.select(others).equals(rows[2].select(others))


def test_recycled_ids_are_unseen_in_the_evaluation_and_cannot_be_joined(tmp_path: Path) -> None:
    first, second = write_day(tmp_path / "0", 0), write_day(tmp_path / "1", 1, reset=[7])
    join(Options((first,), second, tmp_path / "joined"))
    users = np.asarray(read(second, STREAM)["user"])
    assert (np.asarray(read(tmp_path / "joined", "eval")["user"])[users == 7] == UNSEEN_ID).all()
    with pytest.raises(ValueError, match=naming(second, "user")):
        join(Options((first, second), write_day(tmp_path / "2", 2), tmp_path / "other"))


def test_data_sets_that_do_not_continue_each_other_are_refused(tmp_path: Path) -> None:
    days = [write_day(tmp_path / f"{day}", day) for day in range(3)]
    out = tmp_path / "joined"
    for train, evaluated in (((days[1], days[0]), days[2]), ((days[0],), days[2])):
        with pytest.raises(ValueError, match=naming("does not continue", "user")):
            join(Options(train, evaluated, out))
    with pytest.raises(ValueError, match=naming(days[0], "2024-01-01")):
        join(Options((days[0], days[0]), days[1], out))
    with pytest.raises(ValueError, match=naming("out", days[1])):
        join(Options(tuple(days[:2]), days[2], days[1]))
    assert not out.exists()
