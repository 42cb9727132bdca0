"""How gradients are passed over: flat, and as many elements at a time as stay in the cache, or may be widened."""

import sys
from collections.abc import Iterator, Sequence

from torch import Tensor

CACHE_ELEMENTS = 1 << 19
"""float32 elements that a CPU core's second-level cache holds: chunks of all M gradients together stay within."""

WIDENED_ELEMENTS = 1 << 24
"""Elements of all M gradients that are widened to float32 at a time on a GPU."""


def flat(gradient: Tensor) -> Tensor:
    # Contiguous: a flat gradient may still be an expanded element, whose products torch.dot adds one by one.
    return gradient.view(-1) if gradient.is_contiguous() else gradient.reshape(-1).contiguous()


def is_wide(gradient: Tensor) -> bool:
    """Whether nothing has to be widened."""
    return gradient.element_size() >= 4


def chunks_of(flat: Sequence[Tensor], size: int) -> Iterator[tuple[Tensor, ...]]:
    """The same elements of all gradients together, ``size`` of each at a time."""
    return zip(*(gradient.split(size) for gradient in flat), strict=True)


def chunk_elements(gradient: Tensor) -> int:
    """Elements of all gradients that are treated at a time."""
    if gradient.device.type == "cpu":
        return CACHE_ELEMENTS
    return sys.maxsize if is_wide(gradient) else WIDENED_ELEMENTS
