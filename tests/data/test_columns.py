"""Columns of every type that parquet knows: read as the values they are, or refused by name."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from dlrm_mtl.data.checks import check_values
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.data.reader import EvaluationReader
from dlrm_mtl.data.source import RowSource
from tests.data.faults import rewrite
from tests.datasets import make_dataset
from tests.messages import naming

ROWS = 200
SHARD = "eval/part-00000.parquet"


@pytest.fixture
def replace_column(tmp_path: Path) -> Callable[[str, pa.Array], Path]:
    """Gives a data set whose eval split is one shard with another column of some name."""

    def replace(name: str, column: pa.Array) -> Path:
        make_dataset(tmp_path / "set", eval_rows=ROWS, row_group_rows=ROWS)
        rewrite(tmp_path / "set" / SHARD, lambda table: table.set_column(table.column_names.index(name), name, column))
        return tmp_path / "set"

    return replace


def with_value(column: Any, value: Any) -> Any:
    """A column with another value in row 70: row 6 of the second row group."""
    column[70] = value
    return column


IDS = [row % 7 for row in range(ROWS)]
PAIRS = [[row % 7, (row + 1) % 7] for row in range(ROWS)]
BITS = [row % 2 for row in range(ROWS)]
PRICES = [row / 4 for row in range(ROWS)]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        *[("user", pa.array(IDS, kind())) for kind in (pa.int8, pa.uint8, pa.int16, pa.uint32, pa.int64, pa.uint64)],
        ("user", pa.array(IDS).dictionary_encode()),
        *[("click", pa.array(BITS, kind())) for kind in (pa.uint8, pa.int64, pa.uint64)],
        *[("price", pa.array(np.array(PRICES, kind))) for kind in (np.float16, np.float32, np.float64)],
        ("tags", pa.array(PAIRS, pa.list_(pa.int64()))),
        ("tags", pa.array(PAIRS, pa.large_list(pa.uint16()))),
        ("tags", pa.array(PAIRS, pa.list_(pa.int32(), 2))),
        ("tags", pa.array(PAIRS, pa.list_(pa.field("element", pa.uint64(), nullable=False)))),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else value,
)
def test_numbers_of_every_width_are_read(
    replace_column: Callable[[str, pa.Array], Path], name: str, column: pa.Array
) -> None:
    dataset = open_dataset(replace_column(name, column))
    check_values(dataset)
    batches = list(EvaluationReader(RowSource(dataset), 50, 0, 1))
    if name == "click":
        found = torch.cat([batch.labels[:, 0] for batch in batches]).tolist()
    elif name == "price":
        found = torch.cat([batch.dense[:, 1] for batch in batches]).tolist()
    else:
        bags = [batch.sparse[name] for batch in batches]
        values = torch.cat([bag.values() for bag in bags]).split(torch.cat([bag.lengths() for bag in bags]).tolist())
        found = [bag.tolist() for bag in values]
        found = found if name == "tags" else [id_ for [id_] in found]
    assert found == column.to_pylist()


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("price", pa.array(with_value([0.0] * ROWS, 1e39)), "'price', row 6 is 1e+39, expected a finite number"),
        ("price", pa.array(with_value([0.0] * ROWS, -3.5e38)), "'price', row 6 is -3.5e+38, expected a finite"),
        ("price", pa.array(with_value(np.zeros(ROWS, np.float16), np.inf)), "'price', row 6 is inf, expected a finite"),
        ("user", pa.array(with_value([1] * ROWS, 2**63 + 5), pa.uint64()), f"'user', row 6 is {2**63 + 5}, expected"),
        ("tags", pa.array(with_value([[1, 2]] * ROWS, [3, 9]), pa.list_(pa.int8(), 2)), "'tags', row 6 is 9, expected"),
        ("tags", pa.array(with_value([[1, 2]] * ROWS, [3, None])), "'tags', row 6 is null, expected no missing"),
        (
            "tags",
            pa.array(with_value([[1, 2]] * ROWS, None), pa.list_(pa.int8(), 2)),
            "'tags', row 6 is null, expected",
        ),
        ("click", pa.array(with_value(list(BITS), -1), pa.int8()), "'click', row 6 is -1, expected a label in [0, 1]"),
        ("click", pa.array(with_value(list(BITS), 2**64 - 1), pa.uint64()), f"'click', row 6 is {2**64 - 1}, expected"),
    ],
)
def test_a_value_out_of_range_is_named(
    replace_column: Callable[[str, pa.Array], Path], name: str, column: pa.Array, message: str
) -> None:
    dataset = open_dataset(replace_column(name, column))
    with pytest.raises(ValueError) as error:  # noqa: PT011
        check_values(dataset)
    assert f"{SHARD}, row group 1, column {message}" in str(error.value)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("user", pa.nulls(ROWS)),
        ("user", pa.array([Decimal(1)] * ROWS)),
        ("user", pa.array(["a"] * ROWS).dictionary_encode()),
        ("user", pa.array([1.0] * ROWS)),
        ("user", pa.array([True] * ROWS)),
        ("user", pa.array([1] * ROWS, pa.timestamp("s"))),
        ("user", pa.array([{"id": 1}] * ROWS)),
        ("user", pa.array([[1]] * ROWS)),
        ("user", pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1] * ROWS, pa.int8()))),
        ("tags", pa.array([1] * ROWS)),
        ("tags", pa.array([[[1]]] * ROWS)),
        ("tags", pa.array([["a"]] * ROWS)),
        ("tags", pa.array([[None]] * ROWS)),
        ("tags", pa.array([[(1, 1)]] * ROWS, pa.map_(pa.int8(), pa.int8()))),
        ("price", pa.array([1] * ROWS)),
        ("price", pa.array([Decimal("1.5")] * ROWS)),
        ("price", pa.nulls(ROWS)),
        ("click", pa.array([True] * ROWS)),
        ("click", pa.array([1.0] * ROWS)),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else value,
)
def test_another_type_is_refused(replace_column: Callable[[str, pa.Array], Path], name: str, column: pa.Array) -> None:
    with pytest.raises(ValueError, match=rf"{SHARD}.*column '{name}'.*type.*(integer|number)"):
        open_dataset(replace_column(name, column))


@pytest.mark.parametrize("name", ["user", "price", "click"])
def test_a_column_that_stands_twice_is_refused(replace_column: Callable[[str, pa.Array], Path], name: str) -> None:
    directory = replace_column("user", pa.array(IDS))
    rewrite(directory / SHARD, lambda table: table.append_column(name, table[name]))
    with pytest.raises(ValueError, match=naming(SHARD, f"column '{name}'", 2)):
        open_dataset(directory)


def test_a_struct_beside_a_column_of_the_same_path_is_left_alone(
    replace_column: Callable[[str, pa.Array], Path],
) -> None:
    directory = replace_column("user", pa.array(IDS))
    rewrite(directory / SHARD, lambda table: table.append_column("user.id", pa.array([{"id": 1}] * ROWS)))
    check_values(open_dataset(directory))
