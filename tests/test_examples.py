"""The programs of docs/examples run, and do what they say."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.distributed.processes import Ranks
from docs.examples import layer_under_ddp, own_method
from tests.distributed.training import assemble, run_config, train_steps
from tests.pages import ROOT
from tests.ranks import RankPool

OWN = "docs.examples.own_architecture"


@pytest.mark.parametrize("program", ["own_method", "own_architecture"])
def test_programs_run(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / f"docs/examples/{program}.py"), run_name="__main__")
    assert capsys.readouterr().out


def test_own_methods_reach_lower_losses_than_an_untrained_model() -> None:
    for method in ("UnitNorm", "RevisedUncertainty+imtl_g"):
        name = f"docs.examples.own_method:{method}"
        assert sum(own_method.train(name, steps=50)) < 0.5 * sum(own_method.train(name, steps=1))


def trained_under_ddp(_: Ranks) -> list[Any]:
    return [values.numpy() for values in layer_under_ddp.train()]


def test_the_layer_under_ddp_trains_as_on_one_rank(rank_pool: RankPool) -> None:
    [(weights, task_weights)], *_ = one, two = [rank_pool.run(ranks, trained_under_ddp) for ranks in (1, 2)]
    assert len(one) == 1
    for each in two:
        np.testing.assert_allclose(each[0], weights, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(each[1], task_weights, rtol=1e-4)
    assert len(set(task_weights)) == 3


def test_an_own_interaction_and_architecture_train_as_on_one_rank(small_dataset: Path, rank_pool: RankPool) -> None:
    model = ModelConfig(f"{OWN}:BiInteraction", sharing=f"{OWN}:SharedAndOwn", head_mlp=(8,))
    config = run_config(small_dataset, model=model)
    one, two = (rank_pool.run(ranks, train_steps, config, "multibalance", 3) for ranks in (1, 2))
    expected = assemble(one, "final")
    for name, values in assemble(two, "final").items():
        np.testing.assert_allclose(values, expected[name], rtol=2e-4, atol=2e-6, err_msg=name)
    own = [name for name in expected if "sharing.own.task_" in name]
    assert own
    assert all(np.any(expected[name] != one[0]["initial"][name]) for name in own)
