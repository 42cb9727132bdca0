"""The model in a checkpoint, for programs that are no run."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict_loader import load

from dlrm_mtl.distributed.checkpoint_directory import find_damage, read_manifest
from dlrm_mtl.distributed.checkpoint_format import TensorReader
from dlrm_mtl.distributed.tensor_description import read_description
from dlrm_mtl.quoting import quote


def read_model(checkpoint: Path, arm: str | None = None) -> dict[str, Tensor]:
    """The parameters of an arm's model, in host memory, tables whole. Needs no process group.

    Args:
        checkpoint: RUN/checkpoints/step-N, or RUN/seed-S/checkpoints/step-N of a comparison.
        arm: as it was given to the run; the first by default.

    Returns:
        tensors by their names in the model.

    Raises:
        ValueError: it is no checkpoint, it is damaged, or it has no such arm.
    """
    manifest = read_manifest(checkpoint)
    damage = find_damage(checkpoint, manifest)
    if damage is not None:
        raise ValueError(f"{checkpoint}: {damage}")
    start = f"{0 if arm is None else position_of(arm, checkpoint, manifest)}/model/"
    tensors = {
        name: torch.empty(tensor.size, dtype=tensor.metadata.properties.dtype)
        for name, tensor in read_description(checkpoint).items()
        if name.startswith(start)
    }
    fill(checkpoint, tensors)
    return {name.removeprefix(start): tensor for name, tensor in tensors.items()}


def fill(checkpoint: Path, tensors: Mapping[str, Tensor]) -> None:
    """Reads tensors of a checkpoint in place, without a copy of more than one shard. Needs no process group.

    Args:
        tensors: in host memory, by their names in the checkpoint and of the sizes there.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        load(dict(tensors), storage_reader=TensorReader(checkpoint, read_description(checkpoint)), no_dist=True)


def position_of(arm: str, checkpoint: Path, manifest: Mapping[str, Any]) -> int:
    """The position of an arm among those of a checkpoint, with which the names of its tensors begin.

    Raises:
        ValueError: it has no such arm.
    """
    arms: list[str] = manifest["arms"]
    if arm not in arms:
        raise ValueError(f"{checkpoint}: has no arm {quote(arm)}; its arms: {', '.join(arms)}")
    return arms.index(arm)
