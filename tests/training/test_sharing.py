"""Experts and funnels in real training: on one rank as on several, and in bfloat16."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.model_parts import RELATIONS, SHARING
from dlrm_mtl.schema import read_schema
from tests.distributed.training import assemble, run_config, train_steps
from tests.ranks import RankPool
from tests.training import runs

SMALL: dict[str, Any] = {"head_mlp": (8,), "expert_mlp": (8, 6), "shared_experts": 2, "numeric_frequencies": 3}
PAIRS = [
    *((sharing, list(RELATIONS)[number % 3]) for number, sharing in enumerate(SHARING)),
    *(("bottom", relation) for relation in RELATIONS if relation != "independent"),
]
"""Each architecture and each relation; all combinations of both are covered by gradients, in tests/models."""


@pytest.fixture(scope="module")
def funnel(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small data set, where ``like`` stands between ``click`` and ``buy``."""
    directory = tmp_path_factory.mktemp("funnel") / "data"
    shutil.copytree(small_dataset, directory)
    raw = json.loads((directory / "schema.json").read_text())
    for task in raw["tasks"]:
        if task["name"] == "like":
            task["given"] = "click"
        if task["name"] == "buy":
            task["through"] = "like"
    (directory / "schema.json").write_text(json.dumps(raw))
    return directory


@pytest.mark.parametrize(("sharing", "relation"), PAIRS)
def test_on_one_rank_as_on_two(funnel: Path, rank_pool: RankPool, sharing: str, relation: str) -> None:
    config = run_config(funnel, model=ModelConfig(sharing=sharing, relation=relation, **SMALL))
    one, two = (rank_pool.run(ranks, train_steps, config, "multibalance", 3) for ranks in (1, 2))
    expected = assemble(one, "final")
    for name, values in assemble(two, "final").items():
        np.testing.assert_allclose(values, expected[name], rtol=5e-4, atol=5e-6, err_msg=name)


@pytest.mark.parametrize("sharing", ["mmoe", "ple", "stem"])
def test_bfloat16(funnel: Path, rank_pool: RankPool, sharing: str) -> None:
    model = ModelConfig(sharing=sharing, relation="esmm", **SMALL)
    wide, narrow = (
        rank_pool.run(1, runs.train, run_config(funnel, model=model, bf16=bf16), "multibalance")[0]
        for bf16 in (False, True)
    )
    np.testing.assert_allclose(np.array(narrow.ne, float), np.array(wide.ne, float), rtol=0.03)


def test_a_funnel_measures_each_task_where_it_is_defined(funnel: Path, rank_pool: RankPool) -> None:
    runs_by_relation = [
        rank_pool.run(1, runs.train, run_config(funnel, model=ModelConfig(relation=relation, **SMALL)), "mean")[0]
        for relation in RELATIONS
    ]
    rows = [[task.rows for task in run.metrics] for run in runs_by_relation]
    assert rows[0] == rows[1] == rows[2]
    assert rows[0][0] == read_schema(funnel).rows("eval") > rows[0][1]
    assert all(ne is not None and 0.7 < ne < 1.3 for run in runs_by_relation for ne in run.ne)
