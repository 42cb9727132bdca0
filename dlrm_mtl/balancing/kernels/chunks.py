"""Gradients as flat tensors, and in chunks of elements."""

import sys
from collections.abc import Iterator, Sequence

from torch import Tensor

CACHE_ELEMENTS = 1 << 19
"""float32 elements that the second-level cache of a CPU core holds: the size of a chunk of all M gradients together."""

WIDENED_ELEMENTS = 1 << 24
"""Elements of all M gradients together that a GPU widens to float32 at a time."""


def flat(gradient: Tensor) -> Tensor:
    """(N,) contiguous. An expanded element, which is flat already, would make torch.dot slow."""
    return gradient.view(-1) if gradient.is_contiguous() else gradient.reshape(-1).contiguous()


def is_wide(gradient: Tensor) -> bool:
    """Whether the dtype has at least 32 bits."""
    return gradient.element_size() >= 4


def chunks_of(flat: Sequence[Tensor], size: int) -> Iterator[tuple[Tensor, ...]]:
    """Chunks of ``size`` elements of each gradient."""
    return zip(*(gradient.split(size) for gradient in flat), strict=True)


def chunk_elements(gradient: Tensor) -> int:
    """Elements of all gradients together in a chunk."""
    if gradient.device.type == "cpu":
        return CACHE_ELEMENTS
    return sys.maxsize if is_wide(gradient) else WIDENED_ELEMENTS
