"""Every balancing method in the sharded loop, on two ranks, by its name."""

from pathlib import Path

import pytest

from dlrm_mtl.balancing import available_balancers
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.run_config import RunConfig
from tests.ranks import RankPool
from tests.training import runs

REPRESENTATION = [
    *(name for name in available_balancers() if name != "mean"),
    "mgda:normalization=loss+",
    "db_mtl:average=0.9,target=median",
    "db_mtl:log_losses=true",
    "imtl_l+imtl_g",
    "uncertainty+multibalance:beta=0.1",
    "multibalance:reduction=delayed",
    "multibalance:reduction=local",
    "torchjd:UPGrad",
    "torchjd:AlignedMTL",
    "docs.examples.own_method:UnitNorm:power=0.5",
    "docs.examples.own_method:AnchoredUncertainty+imtl_g",
]
PARAMETERS = [
    "imtl_l+imtl_g:level=dense",
    *(f"{method}:level={level}" for method in ("mgda", "moco") for level in ("interaction", "dense", "embedding")),
]


@pytest.mark.parametrize("bf16", [False, True])
def test_all_methods_train(small_dataset: Path, rank_pool: RankPool, tmp_path: Path, bf16: bool) -> None:
    arms = ["mean", *REPRESENTATION, *PARAMETERS]
    model = ModelConfig(interaction="dcn", head_mlp=(16,))
    config = RunConfig(small_dataset, tmp_path / "run", batch_size=100, log_every=3, model=model, bf16=bf16)
    results, _ = rank_pool.run(2, runs.side_by_side, config, arms, 0)
    assert list(results) == arms
    nes = [result.evaluation.tasks[0].ne for result in results.values()]
    assert all(0.5 < ne < 1.2 for ne in nes)
    # All arms end with different results, except the few that cannot differ.
    assert len({round(ne, 9) for ne in nes}) >= len(arms) - 5


def test_fade_in_shares_of_the_run(small_dataset: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    config = RunConfig(small_dataset, tmp_path / "run", batch_size=100, max_steps=4, model=ModelConfig(head_mlp=(16,)))
    arms = ["nash_mtl:fade_share=0.5", "nash_mtl:fade=2", "nash_mtl"]
    [results] = rank_pool.run(1, runs.side_by_side, config, arms, 0)
    in_share, in_steps, never = (result.evaluation.tasks[0].ne for result in results.values())
    assert in_share == in_steps != never
