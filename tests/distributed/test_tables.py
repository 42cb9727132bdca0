"""Initial table weights: a function of table, row, column and seed, whatever the plan; uniform."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.tables import CHUNK_ROWS
from dlrm_mtl.model_schema import CategoricalFeature
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.schema import Schema
from dlrm_mtl.training.arm import build_arm, make_plan
from tests.distributed.training import Weights, assemble, local_weights, plan_by_hand, run_config
from tests.models.batches import SCHEMA
from tests.ranks import RankPool

ROWS = CHUNK_ROWS + 4465
"""More than are filled at once."""
TABLES = (CategoricalFeature("large", ROWS), CategoricalFeature("left", 2000), CategoricalFeature("right", 2000))
LARGE_SCHEMA = replace(SCHEMA, categorical=TABLES)
DIM = 8


def initial_tables(ranks: Ranks, schema: Schema, seed: int, kind: str | None) -> dict[str, Weights]:
    """This rank's shards of every table."""
    config = run_config(Path("unused"), model=ModelConfig(embedding_dim=DIM))
    plan = plan_by_hand(config, schema, ranks, kind) if kind else make_plan(config, schema, ranks)
    weights = local_weights(build_arm(config, parse_recipe("mean"), seed, schema, plan, ranks))
    return {"tables": {name: value for name, value in weights.items() if "embedding_bags" in name}}


def whole_tables(pool: RankPool, world_size: int, seed: int = 0, kind: str | None = None) -> Weights:
    """The tables, by name."""
    results = pool.run(world_size, initial_tables, LARGE_SCHEMA, seed, kind)
    return {name.split(".")[-2]: value for name, value in assemble(results, "tables").items()}


@pytest.fixture(scope="module")
def tables(rank_pool: RankPool) -> Weights:
    return whole_tables(rank_pool, 1)


@pytest.mark.parametrize(
    ("world_size", "kind"),
    [(1, "row_wise"), (2, None), (2, "row_wise"), (2, "column_wise"), (3, "table_wise"), (3, "row_wise")],
)
def test_no_plan_changes_them(rank_pool: RankPool, tables: Weights, world_size: int, kind: str | None) -> None:
    found = whole_tables(rank_pool, world_size, kind=kind)
    assert {name: value.shape for name, value in found.items()} == {
        "large": (ROWS, DIM),
        "left": (2000, DIM),
        "right": (2000, DIM),
    }
    for name, value in tables.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def scaled(table: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """To [-1, 1)."""
    values: npt.NDArray[np.float64] = table.astype(np.float64) * np.sqrt(len(table))
    return values


@pytest.mark.parametrize("name", ["large", "left", "right"])
def test_they_are_uniform(tables: Weights, name: str) -> None:
    values = scaled(tables[name])
    n = values.size
    assert -1.0001 < values.min() < -0.999
    assert 0.999 < values.max() < 1.0001
    # Five standard errors of the mean (variance 1/3) and of the second moment (variance 4/45).
    assert abs(values.mean()) < 5 / np.sqrt(3 * n)
    assert abs((values**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / n)
    counts = np.histogram(values, bins=64, range=(-1, 1))[0]
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("name", ["large", "left", "right"])
def test_rows_and_columns_are_unrelated(tables: Weights, name: str) -> None:
    values = scaled(tables[name])
    assert len(np.unique(values, axis=0)) == len(values)
    columns = np.corrcoef(values.T) - np.eye(DIM)
    assert np.abs(columns).max() < 5 / np.sqrt(len(values))
    for lag in (1, 2, DIM, 64):
        shifted = np.corrcoef(values[lag:].ravel(), values[:-lag].ravel())[0, 1]
        assert abs(shifted) < 5 / np.sqrt(values.size)
    along = np.corrcoef(values.ravel()[1:], values.ravel()[:-1])[0, 1]
    assert abs(along) < 5 / np.sqrt(values.size)


def assert_unrelated(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> None:
    assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 5 / np.sqrt(left.size)
    # Nor the same numbers elsewhere.
    assert not set(map(bytes, left)) & set(map(bytes, right))


def test_tables_differ(tables: Weights) -> None:
    assert_unrelated(tables["left"], tables["right"])


def test_seeds_differ(rank_pool: RankPool, tables: Weights) -> None:
    other = whole_tables(rank_pool, 1, seed=1)
    for name, value in tables.items():
        assert_unrelated(other[name], value)
