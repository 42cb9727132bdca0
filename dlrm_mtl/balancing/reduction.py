"""All-reduce of a step's statistics over the ranks that share the global batch."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dlrm_mtl.balancing.direct_exchange import MAX_VALUES, DirectExchange, DirectSum, connect_ranks
from dlrm_mtl.balancing.finite import host_may_look


class Reducer:
    """Brings local statistics to those of the global batch, in one all-reduce.

    With local *mean* losses and averaged gradients (DDP, TorchRec), the global batch's gradient on a rank's rows is 1/W
    of the local one. So a Gramian (degree 2 in the gradients) is (1/W^2) times the sum over ranks, and pooled gradients
    and mean losses (degree 1) are 1/W times the sum.

    Args:
        process_group: None is the default group, if one is initialised, else no reduction at all.
    """

    def __init__(self, process_group: dist.ProcessGroup | None = None) -> None:
        self._process_group = process_group
        self._exchange: DirectExchange | None = None
        self._connected: dist.ProcessGroup | None = None
        """The group whose ranks have tried to connect."""

    @property
    def world_size(self) -> int:
        if self._process_group is not None:
            return self._process_group.size()
        if dist.is_available() and dist.is_initialized():
            return dist.get_world_size()
        return 1

    def start(self, statistic: Tensor, degree: int, losses: Tensor | None) -> "PendingReduction":
        """Starts the all-reduce and returns at once. Collective.

        Args:
            statistic: float64, any shape.
            degree: of the statistic in the gradients.
            losses: (M,) local mean losses, or None.
        """
        world_size = self.world_size
        if world_size == 1:
            return PendingReduction(statistic, losses, None, None)
        parts = [statistic.reshape(-1) / world_size**degree]
        if losses is not None:
            parts.append(losses.to(statistic.dtype) / world_size)
        buffer = torch.cat(parts) if len(parts) > 1 else parts[0]
        return PendingReduction(statistic, losses, buffer, self._all_reduce(buffer))

    def _all_reduce(self, buffer: Tensor) -> "dist.Work | DirectSum":
        if host_may_look(buffer) and buffer.numel() <= MAX_VALUES:
            group = self._process_group or dist.group.WORLD
            if group is not None and group is not self._connected:
                self._exchange = connect_ranks(group)
                self._connected = group
            if self._exchange is not None:
                return self._exchange.all_reduce(buffer)
        return dist.all_reduce(buffer, group=self._process_group, async_op=True)

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no connections yet."""
        return {**vars(self), "_exchange": None, "_connected": None}


class PendingReduction:
    """An all-reduce under way."""

    def __init__(
        self, statistic: Tensor, losses: Tensor | None, buffer: Tensor | None, work: dist.Work | DirectSum | None
    ) -> None:
        self._statistic = statistic
        self._losses = losses
        self._buffer = buffer
        self._work = work

    def wait(self) -> tuple[Tensor, Tensor | None]:
        """The reduced statistic and losses. On a GPU this orders streams and does not block the host."""
        if self._work is None or self._buffer is None:
            return self._statistic, self._losses
        self._work.wait()
        statistic = self._buffer[: self._statistic.numel()].view_as(self._statistic)
        losses = None if self._losses is None else self._buffer[self._statistic.numel() :]
        return statistic, losses
