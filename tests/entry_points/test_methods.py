"""Every balancing method in the sharded loop, on two ranks, launched by name."""

import json
from pathlib import Path

import pytest

from dlrm_mtl.balancing import available_balancers
from tests.entry_points.processes import python

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
    "docs.examples.own_method:RevisedUncertainty+imtl_g",
]
PARAMETERS = [
    "imtl_l+imtl_g:level=dense",
    *(f"{method}:level={level}" for method in ("mgda", "moco") for level in ("interaction", "dense", "embedding")),
]


@pytest.mark.parametrize("bf16", ["False", "True"])
def test_all_methods_train(small_dataset: Path, tmp_path: Path, bf16: str) -> None:
    arms = ["mean", *REPRESENTATION, *PARAMETERS]
    process = python(
        "dlrm_mtl.compare", "--data", small_dataset, "--out", tmp_path / "run", "--arms", *arms, "--seeds", "1",
        "--batch-size", "100", "--log-every", "3", "--model.interaction", "dcn", "--model.head-mlp", "16",
        "--bf16", bf16, processes=2,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    comparison = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert list(comparison["arms"]) == arms
    nes = [arm["tasks"]["click"]["ne"] for arm in comparison["arms"].values()]
    assert all(0.5 < ne < 1.2 for ne in nes)
    # All arms end with different results, except the few that cannot differ.
    assert len({round(ne, 9) for ne in nes}) >= len(arms) - 5
