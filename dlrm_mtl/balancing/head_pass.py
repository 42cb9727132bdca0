"""Passes through task heads whose backward comes in two parts: the gradients of what went in first, those of the heads'
weights whenever there is time."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


class HeadPass(Protocol):
    """One pass through one head."""

    @property
    def output(self) -> Tensor:
        """Of the head; its graph, if it has one, ends at what went in."""

    @property
    def weights(self) -> Sequence[Tensor]:
        """Parameters of the head."""

    def input_gradient(self, gradient: Tensor) -> Tensor:
        """From the gradient of the output to that of the input."""

    def weight_gradients(self) -> Sequence[Tensor | None]:
        """Of each of the weights; once, after :meth:`input_gradient`."""


@runtime_checkable
class HeadWithPasses(Protocol):
    """A head that has a way of its own to do it."""

    def begin_pass(self, rows: Tensor) -> HeadPass | None:
        """Runs forward, without autograd; None if it cannot in this case."""


def begin_pass(head: nn.Module, rows: Tensor) -> HeadPass:
    """Runs a head forward.

    Args:
        rows: (B, D), without a graph.
    """
    run = head.begin_pass(rows) if isinstance(head, HeadWithPasses) else None
    return ChainPass(head, rows) if run is None else run


class ChainPass:
    """A pass through any head by autograd, link by link, so that nothing is computed twice.

    Args:
        head: a Sequential is a chain of its parts, anything else of itself alone.
        rows: (B, D), without a graph.
    """

    def __init__(self, head: nn.Module, rows: Tensor) -> None:
        self.weights = [weight for weight in head.parameters() if weight.requires_grad]
        self._links: list[_Link] = []
        self._gradients: list[Tensor] = []
        """Of the links' outputs, from the last link on."""
        with torch.enable_grad():
            for part in _parts(head):
                given = rows.detach().requires_grad_()
                rows = part(given)
                self._links.append(_Link(given, rows))

    @property
    def output(self) -> Tensor:
        return self._links[-1].output

    def input_gradient(self, gradient: Tensor) -> Tensor:
        for link in reversed(self._links):
            self._gradients.append(gradient)
            [gradient] = torch.autograd.grad(link.output, link.input, gradient, retain_graph=True)
        return gradient

    def weight_gradients(self) -> Sequence[Tensor | None]:
        outputs = [link.output for link in reversed(self._links)]
        found = torch.autograd.grad(outputs, self.weights, self._gradients, allow_unused=True)
        self._links, self._gradients = [], []
        return found


class _Link(NamedTuple):
    input: Tensor
    output: Tensor


def _parts(head: nn.Module) -> list[nn.Module]:
    return [part for child in head for part in _parts(child)] if isinstance(head, nn.Sequential) else [head]
