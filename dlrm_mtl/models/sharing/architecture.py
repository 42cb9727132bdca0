"""What an architecture is: what the tasks share between the interaction and their heads.

Notation: B batch, D width of the interaction's output x, M tasks.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dlrm_mtl.balancing.methods.class_reference import import_class
from dlrm_mtl.config import SHARING, ModelConfig
from dlrm_mtl.models.interaction import require_out_features


class SharingArchitecture(nn.Module):
    """Two halves, with the balancing layer between them: :meth:`forward` computes the cut, :meth:`head_input` reads it.

    The cut is a set of tensors through which every path from a loss to a shared parameter passes: the experts' outputs
    and x for MMoE. Each may be read by all tasks, some, or one. Parameters used in :meth:`forward` receive balanced
    gradients; those used in :meth:`head_input` (gates, experts of one task) receive their tasks' own.

    Every parameter must take part in every step. Initial weights must come from torch's random numbers alone. An
    architecture is also built on the meta device.

    Args:
        config: the model's options.
        in_features: D.
        tasks: M names, which may name modules. Modules of one task belong in a ``ModuleDict`` under its name: from a
            checkpoint of other tasks (``init_from``), those of new tasks start afresh.

    Raises:
        ValueError: the architecture cannot take these options.
    """

    out_features: int
    """Width of what each head reads."""

    def __init__(self, config: ModelConfig, in_features: int, tasks: Sequence[str]) -> None:
        super().__init__()

    def forward(self, representation: Tensor) -> tuple[Tensor, ...]:
        """x (B, D) to the tensors of the cut, (B, ...) each."""
        raise NotImplementedError

    def head_input(self, task: int, views: Sequence[Tensor]) -> Tensor:
        """What the head of one task reads.

        Args:
            task: its index.
            views: its own views of the cut's tensors.

        Returns:
            (B, ``out_features``).
        """
        raise NotImplementedError

    def head_inputs(self, representation: Tensor, balance: Callable[[Tensor], Sequence[Tensor]]) -> list[Tensor]:
        """From x to what the M heads read.

        Args:
            representation: (B, D).
            balance: the balancing layer: a tensor to M views of it.

        Returns:
            M tensors (B, ``out_features``).
        """
        cut = self(representation)
        if len(cut) == 1:
            return [self.head_input(task, (view,)) for task, view in enumerate(balance(cut[0]))]
        # Side by side they are one tensor to the layer: its inner products are the sums over the cut's tensors.
        widths = [tensor[0].numel() for tensor in cut]
        joined = balance(torch.cat([tensor.flatten(1) for tensor in cut], dim=1))
        return [
            self.head_input(
                task,
                [part.view(tensor.shape) for part, tensor in zip(view.split(widths, dim=1), cut, strict=True)],
            )
            for task, view in enumerate(joined)
        ]


def build_sharing(config: ModelConfig, in_features: int, tasks: Sequence[str]) -> SharingArchitecture:
    """The architecture that a configuration names.

    Raises:
        ValueError: its class cannot be imported, or refuses the configuration.
    """
    kind = import_class(SHARING.get(config.sharing, config.sharing), SharingArchitecture)
    sharing: SharingArchitecture = kind(config, in_features, tasks)
    require_out_features("model.sharing", config.sharing, sharing)
    return sharing
