"""Impossible arms and options are refused before anything is trained; ``test_compare.py`` runs some in processes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.run_config import CompareConfig
from dlrm_mtl.studies.comparison import run_comparison
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
        ("static:weights=1/2", "Static: weights is [1, 2], expected 3 finite numbers"),
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
    assert "table 'nope'" in refused(rank_pool, small_dataset, tmp_path / "run", "multibalance", model=model)


def compared(ranks: Ranks, config: CompareConfig, disk_is_full: bool) -> str:
    with pytest.MonkeyPatch.context() as patch:
        if disk_is_full:
            patch.setattr("dlrm_mtl.distributed.checkpoint.complete", no_room)
        return refusal(ranks, config)


def no_room(*_: Any) -> None:
    raise OSError("no space left on device")


def test_a_model_that_is_to_be_kept_and_cannot_be_is_an_error(
    small_dataset: Path, rank_pool: RankPool, tmp_path: Path
) -> None:
    """A seed is finished once its models are written; another run can start from them."""
    config = CompareConfig(small_dataset, tmp_path, arms=("mean", "sum"), seeds=1, batch_size=100, keep_models=True)
    [error] = rank_pool.run(1, compared, config, True)
    assert "seed-0/checkpoints/step-00000006" in error
    assert not (tmp_path / "seed-0.json").exists()
    assert rank_pool.run(1, compared, config, False) == ["accepted"]
    [kept] = (tmp_path / "seed-0" / "checkpoints").iterdir()
    assert kept.name == "step-00000006"
    again = replace(config, out=tmp_path / "again", init_from=kept, keep_models=False)
    assert rank_pool.run(1, compared, again, False) == ["accepted"]
    assert not (again.out / "seed-0" / "checkpoints").exists()
