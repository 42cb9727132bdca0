"""The Gramian of per-task gradients: M x M inner products over the flattened global batch."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

CHUNK_ELEMENTS = 1 << 20
"""Elements of each gradient that are widened at a time when gradients are narrower than float32."""


def local_gramian(gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """Inner products of M gradients of one rank.

    Pairwise dots copy nothing; bf16 and fp16 gradients are widened to float32 chunk by chunk.

    Args:
        gradients: M tensors of one shape, any floating dtype; None is a task without a gradient: zeros.
        device: where the result goes, if every gradient is None.

    Returns:
        (M, M) symmetric, float64; accumulated in float32, or in float64 for float64 gradients.
    """
    present = {m: gradient.reshape(-1) for m, gradient in enumerate(gradients) if gradient is not None}
    zero = torch.zeros((), dtype=torch.float64, device=device)
    products = dict.fromkeys(_pairs(range(len(gradients))), zero)
    products |= zip(_pairs(present), _pairwise_products(list(present.values())), strict=True)
    tasks = range(len(gradients))
    entries = [products[min(i, j), max(i, j)].double() for i in tasks for j in tasks]
    return torch.stack(entries).view(len(tasks), len(tasks))


def _pairs(items: Iterable[int]) -> Iterator[tuple[int, int]]:
    return itertools.combinations_with_replacement(items, 2)


def _pairwise_products(flat: Sequence[Tensor]) -> list[Tensor]:
    """Inner products of every pair of gradients, as 0-d tensors, in the order of :func:`_pairs`."""
    if not flat or torch.finfo(flat[0].dtype).bits >= 32:
        return [torch.dot(flat[i], flat[j]) for i, j in _pairs(range(len(flat)))]
    chunks = zip(*(gradient.split(CHUNK_ELEMENTS) for gradient in flat), strict=True)
    products = [torch.stack(_pairwise_products([piece.float() for piece in chunk])) for chunk in chunks]
    return list(torch.stack(products).sum(dim=0))


def combine_gradients(gradients: Sequence[Tensor | None], coefficients: Tensor) -> Tensor | None:
    """Weighted sum of M gradients, without a stacked copy.

    Args:
        gradients: M tensors of one shape, or None.
        coefficients: (M,) float64, on the gradients' device.

    Returns:
        sum over m of coefficients[m] * gradients[m] in the gradients' dtype, accumulated in at least float32;
        None if every gradient is None.
    """
    present = [(gradient, coefficients[m]) for m, gradient in enumerate(gradients) if gradient is not None]
    if not present:
        return None
    dtype = present[0][0].dtype
    wide = dtype if torch.finfo(dtype).bits >= 32 else torch.float32
    first, weight = present[0]
    total = first.to(wide) * weight.to(wide)
    for gradient, weight in present[1:]:
        total.addcmul_(gradient.to(wide), weight.to(wide))
    return total.to(dtype)


class GramianReducer:
    """All-reduces local Gramians over the ranks of a process group.

    With local *mean* losses and averaged gradients (DDP, TorchRec), the gradient of the global batch on rank r's rows
    is 1/W of the local one, so G = (1/W^2) sum over ranks of the local Gramians.

    Args:
        process_group: None is the default group, if one is initialised, else no reduction at all.
    """

    def __init__(self, process_group: dist.ProcessGroup | None = None) -> None:
        self._process_group = process_group

    @property
    def world_size(self) -> int:
        if dist.is_available() and dist.is_initialized():
            return dist.get_world_size(self._process_group)
        return 1

    def reduce(self, gramian: Tensor) -> Tensor:
        """The Gramian of the global batch, on every rank. Collective."""
        pending = self.start(gramian)
        return pending.wait()

    def start(self, gramian: Tensor) -> "PendingGramian":
        """Starts the all-reduce, in place, and returns at once. Collective."""
        world_size = self.world_size
        work = None
        if world_size > 1:
            work = dist.all_reduce(gramian, group=self._process_group, async_op=True)
        return PendingGramian(gramian, work, world_size)


class PendingGramian:
    """An all-reduce under way."""

    def __init__(self, gramian: Tensor, work: dist.Work | None, world_size: int) -> None:
        self._gramian = gramian
        self._work = work
        self._world_size = world_size

    def wait(self) -> Tensor:
        """(M, M) the reduced Gramian. On a GPU this orders streams and does not block the host."""
        if self._work is not None:
            self._work.wait()
            self._work = None
            self._gramian /= self._world_size**2
        return self._gramian
