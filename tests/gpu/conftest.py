"""Ranks without GPUs beside those of ``rank_pool``, which have one each."""

from collections.abc import Iterator

import pytest

from dlrm_mtl.distributed.processes import Ranks
from tests.ranks import RankPool


def device(ranks: Ranks) -> str:
    return ranks.device.type


@pytest.fixture(scope="session")
def cpu_pool() -> Iterator[RankPool]:
    """A process that sees no GPU."""
    pool = RankPool()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert pool.run(1, device) == ["cpu"]
    yield pool
    pool.close()
