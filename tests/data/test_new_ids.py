"""Ids that begin anew, as a data set of a period names them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_prep.output.continued import Continued
from data_prep.output.writer import DatasetWriter
from dlrm_mtl.continuation import Period
from dlrm_mtl.data.new_ids import read_new_ids, with_unseen
from dlrm_mtl.meaning import TableFingerprint
from dlrm_mtl.schema import STREAM, Schema, read_schema
from tests.datasets import CATEGORICAL, DENSE, FINGERPRINTS, TASKS, make_table
from tests.json_edits import edit
from tests.messages import naming

BEFORE = {"user": TableFingerprint("vocabulary", 40, sha256="5" * 64), "item": FINGERPRINTS.tables["item"]}


def write_day(directory: Path, reset: Sequence[int]) -> Schema:
    with DatasetWriter(
        directory, "day", CATEGORICAL, DENSE, TASKS, fingerprints=FINGERPRINTS, splits=[STREAM]
    ) as writer:
        writer.write(STREAM, make_table(100, seed=1))
        return writer.finish(
            source={},
            period=Period("2024-01-02", "2024-01-03"),
            continued=Continued("day", BEFORE, {"user": np.array(reset, np.int64)}),
        )


@pytest.mark.parametrize("reset", [[], [3, 39]])
def test_ids_that_are_reset_and_appended_begin_anew(tmp_path: Path, reset: list[int]) -> None:
    day = tmp_path / "day"
    schema = write_day(day, reset)
    assert read_schema(day) == schema
    new_ids = read_new_ids(day, schema)
    assert new_ids.keys() == {"user"}
    assert new_ids["user"].tolist() == [*reset, *range(40, 50)]
    assert schema.rows(STREAM) == 100
    assert schema.tasks[0].labels_differ


def test_a_file_of_ids_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    day = tmp_path / "day"
    schema = write_day(day, [3, 39])
    for ids in ([39, 3], [3, 40], [-1, 3]):
        schema = write_day(day, ids)
        with pytest.raises(ValueError, match=naming("user.parquet", "user", "40")):
            read_new_ids(day, schema)
    edit(day / "schema.json", lambda raw: raw["continues"]["reset"]["user"].update(sha256="0" * 64))
    with pytest.raises(ValueError, match=naming("user.parquet", "sha256")):
        read_new_ids(day, read_schema(day))
    (day / "reset" / "user.parquet").unlink()
    with pytest.raises(ValueError, match=naming("user.parquet")):
        read_new_ids(day, schema)


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64()])
def test_new_ids_are_read_as_unseen(kind: pa.DataType) -> None:
    new_ids = np.array([2, 5, 9])
    ids, lists = [2, 0, 5, 8, 9, 10, 2], [[5, 1, 2], [], [8], [9, 9]]
    column = pa.chunked_array([pa.array(ids, kind)[1:], pa.array(ids[:1], kind)])
    assert with_unseen(column, new_ids).equals(pa.chunked_array([pa.array([0, 1, 8, 1, 10, 1, 1], kind)]))
    bags = with_unseen(pa.chunked_array([pa.array([[2], *lists], pa.list_(kind))[1:]]), new_ids)
    assert bags.to_pylist() == [[1, 1, 1], [], [8], [1, 1]]
    assert bags.type == pa.list_(kind)
