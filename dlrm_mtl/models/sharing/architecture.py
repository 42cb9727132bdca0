"""What an architecture is: what the tasks share between the interaction and their heads.

Notation: B batch, D width of the interaction's output x, M tasks and losses, H heads (one per task, and a second one
for some under the relation esm2), R head inputs, K experts, d their width.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torchrec.modules.mlp import MLP, Perceptron

from dlrm_mtl.balancing import BalancingLayer, Mixture, ParameterLevelLayer
from dlrm_mtl.balancing.methods.class_reference import import_class
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.model_parts import SHARING
from dlrm_mtl.models.interaction import require_output

Layer = BalancingLayer | ParameterLevelLayer


class HeadInput(NamedTuple):
    """A loss reads a head: that of its own task, and under a funnel those of the tasks before it."""

    loss: int
    head: int


class SharingArchitecture(nn.Module):
    """From x to what the heads read, by way of the balancing layer at the cut (``docs/balancing.md``).

    What :meth:`forward` computes before the layer is shared and gets balanced gradients. What it computes from a loss's
    views gets that loss's own gradient.

    Every parameter must take part in every step. Initial weights must come from torch's random numbers alone. An
    architecture is also built on the meta device.

    Args:
        config: the model's options.
        in_features: D.
        heads: H names of modules. What belongs to one head is in a ``ModuleDict`` or ``ParameterDict`` under its name:
            from a checkpoint of other tasks (``init_from``), that of new tasks starts afresh.

    Raises:
        ValueError: the architecture cannot take these options.
    """

    own_tables: ClassVar[bool] = False
    """Whether each task has embedding tables of its own beside the shared ones. :meth:`forward` then takes ``own`` as
    well: H tensors (B, D), each from the tables of the head's task, by a bottom MLP and an interaction of its own.
    """

    out_features: int
    """Width of what each head reads."""

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__()

    def forward(self, representation: Tensor, layer: Layer, inputs: Sequence[HeadInput]) -> Sequence[Tensor]:
        """
        Args:
            representation: x (B, D).
            layer: called once, at the cut: its views are for the M losses.
            inputs: R pairs of a loss and a head; what this head reads is to be computed from this loss's views.

        Returns:
            R tensors (B, ``out_features``).
        """
        raise NotImplementedError


class Experts(nn.ModuleList):
    """K MLPs of one shape: (B, D) to (B, K, d)."""

    def __init__(self, count: int, in_features: int, sizes: Sequence[int]) -> None:
        super().__init__(MLP(in_features, list(sizes)) for _ in range(count))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([expert(inputs) for expert in self], dim=1)


class Gate(nn.Module):
    """(B, D) to (B, K) weights of K experts, which sum to 1: the softmax of a linear layer, or of an MLP.

    Args:
        hidden: layer sizes of the MLP before the last layer.
        groups: experts of each group, in order. A group has weights of its own in the last layer, so that those of
            another task's experts can come and go.
    """

    def __init__(self, in_features: int, hidden: Sequence[int], groups: Mapping[str, int]) -> None:
        super().__init__()
        sizes = (in_features, *hidden)
        self.hidden = nn.Sequential(*(Perceptron(*pair) for pair in pairwise(sizes)))
        self.scores = nn.ModuleDict({group: nn.Linear(sizes[-1], experts) for group, experts in groups.items()})

    def forward(self, inputs: Tensor) -> Tensor:
        layers = [layer for layer in self.scores.values() if isinstance(layer, nn.Linear)]
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers])
        return nn.functional.linear(self.hidden(inputs), weight, bias).softmax(dim=1)


def mix(weights: Tensor, experts: Tensor) -> Tensor:
    """The weighted sum of experts: (B, K) and (B, K, d) to (B, d)."""
    return torch.bmm(weights.unsqueeze(1).to(experts.dtype), experts).squeeze(1)


def balance_with_experts(
    layer: Layer,
    of_heads: Sequence[Tensor],
    experts: Tensor,
    inputs: Sequence[HeadInput],
) -> tuple[list[Tensor], Mixture]:
    """Balances where each head reads one tensor of its own, beside mixtures of shared experts.

    Args:
        of_heads: H tensors; several may be the same one.
        experts: (B, K, d).

    Returns:
        R views, each of the head's tensor for the loss; and the mixture.
    """
    heads = [[head for loss, head in inputs if loss == reader] for reader in range(layer.num_tasks)]
    views, mixture = layer.with_experts([[of_heads[head] for head in read] for read in heads], experts)
    by_input = {
        HeadInput(loss, head): view
        for loss, read in enumerate(heads)
        for head, view in zip(read, views[loss], strict=True)
    }
    return [by_input[each] for each in inputs], mixture


def build_sharing(config: ModelConfig, in_features: int, heads: Sequence[str]) -> SharingArchitecture:
    """The architecture that a configuration names.

    Raises:
        ValueError: its class cannot be imported, or refuses the configuration.
    """
    sharing = sharing_class(config)(config, in_features, heads)
    require_output("model.sharing", config.sharing, sharing, SharingArchitecture)
    return sharing


def sharing_class(config: ModelConfig) -> type[SharingArchitecture]:
    """The class of the architecture that a configuration names.

    Raises:
        ValueError: it cannot be imported.
    """
    kind: type[SharingArchitecture] = import_class(SHARING.get(config.sharing, config.sharing), SharingArchitecture)
    return kind
