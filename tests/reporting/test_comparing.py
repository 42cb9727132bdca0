"""Arms and options that cannot be are refused before anything is trained; some of them by processes, in
``test_compare.py``."""

from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.config import CompareConfig, ModelConfig
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.reporting.comparing import run_comparison
from tests.ranks import RankPool


def refusal(ranks: Ranks, config: CompareConfig) -> str:
    try:
        run_comparison(config, ranks)
    except ValueError as error:
        return str(error)
    return "accepted"


def refused(pool: RankPool, data: Path, out: Path, *arms: str, **changes: Any) -> str:
    [message] = pool.run(1, refusal, CompareConfig(data, out, arms=("mean", *arms), batch_size=100, **changes))
    assert isinstance(message, str)
    assert "\n" not in message
    assert not (out / "seed-0").exists()
    return message


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("multibalance:bta=1", "has no option 'bta'; its options and defaults: beta=1.0"),
        ("multibalance:beta=-1", "beta is -1"),
        ("multibalance:reduction=exactly", "reduction is 'exactly'"),
        ("multibalance:beta", "'beta' is not of the form OPTION=VALUE"),
        ("static:weights=1/2", "weights are [1, 2], expected 3 finite numbers"),
        ("mgda:level=tables", "level is 'tables', expected one of representation, interaction, dense, embedding"),
        ("mgda:level=dense,reduction=delayed", "reduction is 'delayed', expected exact with level=dense"),
        ("torchjd:Upgrad", "unknown TorchJD weighting 'Upgrad', expected one of AlignedMTL"),
        ("uncertainty+imtl_l", "weighs the losses twice"),
    ],
)
def test_arms(small_dataset: Path, tmp_path: Path, rank_pool: RankPool, arm: str, message: str) -> None:
    assert message in refused(rank_pool, small_dataset, tmp_path / "run", arm)


def test_a_table_that_is_none(small_dataset: Path, tmp_path: Path, rank_pool: RankPool) -> None:
    model = ModelConfig(embedding_dims={"nope": 8}, interaction="dcn")
    assert "names table 'nope'" in refused(rank_pool, small_dataset, tmp_path / "run", "multibalance", model=model)
