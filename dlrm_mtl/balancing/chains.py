"""Task heads as chains of modules, whose backward pass comes in two parts: the gradients of what goes through them
first, those of their weights whenever there is time."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Link(NamedTuple):
    """One module of a chain in one forward pass, with a graph of its own."""

    input: Tensor
    output: Tensor


class Chains:
    """M heads over one representation, run forward; their graphs stay within.

    Args:
        representation: (B, D), without a graph.
        heads: a Sequential is a chain of its parts, anything else of itself alone.
    """

    def __init__(self, representation: Tensor, heads: Sequence[nn.Module]) -> None:
        self._chains = [_run(representation, head) for head in heads]
        self._gradients: list[tuple[Tensor, Tensor]] = []

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """Of the M heads, without a graph."""
        return tuple(chain[-1].output.detach() for chain in self._chains)

    def representation_gradients(self, gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """From the M gradients of the outputs, or None where a head is not used, to those of the representation."""
        current = list(gradients)
        for level in zip_longest(*(reversed(chain) for chain in self._chains)):
            used: list[tuple[int, Link, Tensor]] = []
            for m, (link, gradient) in enumerate(zip(level, current, strict=True)):
                if link is not None and gradient is not None:
                    used.append((m, link, gradient))
            outputs, received = [link.output for _, link, _ in used], [gradient for _, _, gradient in used]
            self._gradients += zip(outputs, received, strict=True)
            found = torch.autograd.grad(outputs, [link.input for _, link, _ in used], received, retain_graph=True)
            for (m, _, _), gradient in zip(used, found, strict=True):
                current[m] = gradient
        return tuple(current)

    def weight_gradients(self, weights: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """Of the heads' weights; after :meth:`representation_gradients`, once."""
        outputs, gradients = zip(*self._gradients, strict=True)
        found: tuple[Tensor | None, ...] = torch.autograd.grad(outputs, weights, gradients, allow_unused=True)
        self._chains, self._gradients = [], []
        return found


def chain_parts(head: nn.Module) -> list[nn.Module]:
    """The modules that follow one another in a head."""
    return [part for child in head for part in chain_parts(child)] if isinstance(head, nn.Sequential) else [head]


def _run(representation: Tensor, head: nn.Module) -> list[Link]:
    chain: list[Link] = []
    with torch.enable_grad():
        for part in chain_parts(head):
            given = (chain[-1].output if chain else representation).detach().requires_grad_()
            chain.append(Link(given, part(given)))
    return chain
