"""Embeddings that travel in reduced precision."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchrec.distributed.types import CommOp

from dlrm_mtl.config import CommsConfig, ShardingConfig
from dlrm_mtl.distributed.comms import check_comms, comm_codecs
from tests.distributed.training import run_config, train_steps
from tests.messages import naming
from tests.ranks import RankPool

POOLED = (CommOp.POOLED_EMBEDDINGS_ALL_TO_ALL, CommOp.POOLED_EMBEDDINGS_REDUCE_SCATTER)


def test_float32_needs_no_codecs() -> None:
    assert comm_codecs(CommsConfig()) is None


@pytest.mark.parametrize(
    ("config", "dtypes"),
    [
        (CommsConfig("fp16", "bf16"), (torch.float16, torch.bfloat16)),
        (CommsConfig("bf16", "bf16"), (torch.bfloat16, torch.bfloat16)),
        (CommsConfig("fp16", "fp32"), (torch.float16, torch.float32)),
        (CommsConfig("fp32", "bf16"), (torch.float32, torch.bfloat16)),
    ],
)
def test_what_travels(config: CommsConfig, dtypes: tuple[torch.dtype, ...]) -> None:
    codecs = comm_codecs(config)
    assert codecs is not None
    values = torch.tensor([1.0, float("nan"), 1e-9, -3.0])
    for operation in POOLED:
        both = codecs[operation.name]
        for codec, dtype in zip((both.forward, both.backward), dtypes, strict=True):
            sent = codec.encode(values)
            assert sent.dtype == dtype
            received = codec.decode(sent)
            assert received.dtype == torch.float32
            assert received.isnan().tolist() == [False, True, False, False]
            torch.testing.assert_close(received[[0, 3]], values[[0, 3]])
        # Gradients of a large batch are this small.
        assert both.backward.decode(both.backward.encode(values))[2] == pytest.approx(1e-9, rel=0.01)


@pytest.mark.parametrize(("forward", "backward", "named"), [("fp16", "fp32", "forward"), ("fp32", "bf16", "backward")])
def test_they_are_refused_without_a_gpu(forward: Any, backward: Any, named: str) -> None:
    config = CommsConfig(forward, backward)
    check_comms(config, "cuda")
    check_comms(CommsConfig(), "cpu")
    with pytest.raises(ValueError, match=naming(f"sharding.comms.{named}", "fp32", "CPU")):
        check_comms(config, "cpu")


def test_they_reach_the_exchange(small_dataset: Path, rank_pool: RankPool) -> None:
    """gloo carries half precision forward: training differs from float32, and by its rounding alone."""
    exact, rounded = (
        rank_pool.run(2, train_steps, replace(run_config(small_dataset), sharding=sharding), "multibalance", 4)[0]
        for sharding in (ShardingConfig(), ShardingConfig(comms=CommsConfig("fp16")))
    )
    assert not np.array_equal(rounded["losses"], exact["losses"])
    np.testing.assert_allclose(rounded["losses"], exact["losses"], atol=1e-3)
    np.testing.assert_allclose(rounded["task_weights"], exact["task_weights"], atol=1e-2)
