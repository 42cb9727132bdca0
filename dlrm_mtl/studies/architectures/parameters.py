"""Counts a model's parameters, and scales its experts to a given number of them."""

from bisect import bisect_right
from dataclasses import dataclass, replace

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.dense_memory import dense_memory
from dlrm_mtl.models.embeddings import build_embedding_bags
from dlrm_mtl.schema import Schema

WIDTH_STEP = 4
"""Scaled layer sizes are multiples of this."""
LARGEST_WIDTH = 16384
"""Of the first layer of a scaled expert."""


@dataclass(frozen=True)
class Parameters:
    """Numbers of a model's parameters."""

    dense: int
    """Of all but the tables."""
    tables: int


def count_parameters(schema: Schema, model: ModelConfig) -> Parameters:
    """Counts the parameters of one model, as every arm but ``single_task`` trains it.

    Raises:
        ValueError: the configuration does not fit the data set.
    """
    dense = dense_memory(schema, model, "sgd").total_parameters
    tables = sum(weight.numel() for weight in build_embedding_bags(schema, model).parameters())
    return Parameters(dense, tables)


def match_parameters(schema: Schema, model: ModelConfig, dense: int) -> ModelConfig:
    """The model with the layer sizes of ``expert_mlp`` scaled by one factor, so that its number of dense parameters is
    as close as possible to ``dense``. An architecture without experts, or with more parameters even at the smallest
    sizes, stays as it is.

    Raises:
        ValueError: the configuration does not fit the data set.
    """

    def scaled(steps: int) -> ModelConfig:
        first = model.expert_mlp[0]
        sizes = (WIDTH_STEP * max(1, round(steps * size / first)) for size in model.expert_mlp)
        return replace(model, expert_mlp=tuple(sizes))

    def count(steps: int) -> int:
        return count_parameters(schema, scaled(steps)).dense

    candidates = range(1, LARGEST_WIDTH // WIDTH_STEP + 1)
    smallest = count(candidates[0])
    if smallest > dense or smallest == count(candidates[-1]):
        return model
    above = bisect_right(candidates, dense, key=count)
    nearest = min(candidates[above - 1 : above + 1], key=lambda steps: abs(count(steps) - dense))
    return scaled(nearest)
