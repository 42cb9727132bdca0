"""What an interaction is: where the bottom MLP's output and the pooled embeddings meet.

Notation: B batch, D embedding dimension; F features with an embedding of their own, D_f its dimension: the categorical
ones in the order of schema.json and, with ``numeric_frequencies``, the dense ones.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlrm_mtl.balancing.methods.class_reference import import_class
from dlrm_mtl.config import ModelConfig, require
from dlrm_mtl.model_parts import INTERACTIONS


class Interaction(nn.Module):
    """Makes one vector per row from the dense embedding and the F embeddings of features.

    Initial weights must come from torch's random numbers alone. An interaction is also built on the meta device.

    Args:
        config: the model's options; D is ``config.embedding_dim``.
        sparse_dims: D_f of each feature.

    Raises:
        ValueError: the interaction cannot take these options or dimensions.
    """

    out_features: int
    """Width of the output."""

    def __init__(self, config: ModelConfig, sparse_dims: Sequence[int]) -> None:
        super().__init__()

    def forward(self, dense: Tensor, sparse: list[Tensor]) -> Tensor:
        """(B, D) and F tensors (B, D_f) to (B, ``out_features``)."""
        raise NotImplementedError


def build_interaction(config: ModelConfig, sparse_dims: Sequence[int]) -> Interaction:
    """The interaction that a configuration names.

    Args:
        sparse_dims: D_f of each feature.

    Raises:
        ValueError: its class cannot be imported, refuses the configuration, or has an output of another width than
            ``out_features``.
    """
    kind = import_class(INTERACTIONS.get(config.interaction, config.interaction), Interaction)
    interaction: Interaction = kind(config, sparse_dims)
    require_output("model.interaction", config.interaction, interaction, Interaction)
    _check_width(config, interaction, sparse_dims)
    return interaction


@torch.no_grad()
def _check_width(config: ModelConfig, interaction: Interaction, sparse_dims: Sequence[int]) -> None:
    dense, *sparse = (torch.zeros(2, dim) for dim in (config.embedding_dim, *sparse_dims))
    try:
        shape = tuple(interaction.eval()(dense, sparse).shape)
    except Exception:
        if dense.is_meta:
            return  # its operations may need values: it is checked when it is built on a device
        raise
    finally:
        interaction.train()
    stated = (2, interaction.out_features)
    expected = f"a class whose out_features is the width of its output: of 2 rows {stated}, found {shape}"
    require("model.interaction", config.interaction, shape == stated, expected)


def require_output(option: str, name: str, module: nn.Module, base: type[nn.Module]) -> None:
    """Raises a ValueError unless a module has a forward of its own and states the width of its output."""
    require(option, name, type(module).forward is not base.forward, "a class with a method forward")
    require(option, name, isinstance(getattr(module, "out_features", None), int), "a class that sets out_features")
