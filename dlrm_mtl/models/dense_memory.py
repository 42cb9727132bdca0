"""The memory of a model's dense part."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from dlrm_mtl.config import DenseOptimizer, ModelConfig
from dlrm_mtl.models.ranker import DenseModules
from dlrm_mtl.schema import Schema

FLOAT32 = 4
DENSE_STATE = {"sgd": 0, "adagrad": 1, "adam": 2, "adamw": 2}
"""Values that a dense optimizer keeps per parameter."""


@dataclass(frozen=True)
class DenseMemory:
    """Parameters other than the tables', and the bytes of their float32 weights, gradients and optimizer state on each
    rank. DistributedDataParallel's buckets are the gradients, not a copy. Activations are not counted."""

    parameters: Mapping[str, int]
    """Of ``representation`` (bottom MLPs, interactions, over-archs), ``sharing`` (experts and gates) and ``heads``."""
    bytes_per_parameter: int

    @property
    def total_parameters(self) -> int:
        return sum(self.parameters.values())

    @property
    def bytes(self) -> int:
        return self.bytes_per_parameter * self.total_parameters


def dense_memory(schema: Schema, config: ModelConfig, optimizer: DenseOptimizer) -> DenseMemory:
    """Of the model that a configuration describes, which is built without memory.

    Raises:
        ValueError: as :class:`DenseModules`.
    """
    with torch.device("meta"):
        modules = DenseModules(schema, config)
    return memory_of(modules, optimizer)


def memory_of(modules: DenseModules, optimizer: DenseOptimizer) -> DenseMemory:
    """Of modules that are built already."""
    parts = {
        "representation": (modules.shared, modules.own),
        "sharing": (modules.sharing,),
        "heads": (modules.heads, modules.relation),
    }
    parameters = {
        part: sum(weight.numel() for module in of_part for weight in module.parameters())
        for part, of_part in parts.items()
    }
    return DenseMemory(parameters, FLOAT32 * (2 + DENSE_STATE[optimizer]))
