"""All-reduce of a step's statistics over the ranks that share the global batch."""

from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor

from dlrm_mtl.balancing.exchange.direct_exchange import MAX_VALUES, DirectExchange, DirectSum, connect_ranks
from dlrm_mtl.balancing.kernels.finite import host_may_look


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
        group = self._group
        return 1 if group is None else group.size()

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
        direct = self.exchange(buffer.numel()) if host_may_look(buffer) else None
        if direct is not None:
            return PendingReduction(statistic, losses, buffer, direct.start(buffer.tolist()))
        work = dist.all_reduce(buffer, group=self._process_group, async_op=True)
        return PendingReduction(statistic, losses, buffer, work)

    def exchange(self, count: int) -> DirectExchange | None:
        """What sums so many values of a CPU, if it is not the process group. Collective."""
        if count > MAX_VALUES:
            return None
        group = self._group
        if group is not None and group is not self._connected:
            self._exchange = connect_ranks(group)
            self._connected = group
        return self._exchange

    @property
    def _group(self) -> dist.ProcessGroup | None:
        if self._process_group is not None or not dist.is_available():
            return self._process_group
        return dist.group.WORLD

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no connections yet."""
        return {**vars(self), "_exchange": None, "_connected": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Ranks share a process group, and so do copies."""
        return type(self)(self._process_group)


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
        sums = self._work.wait()
        if isinstance(self._work, DirectSum):
            self._buffer.copy_(torch.tensor(sums, dtype=torch.float64, device="cpu"))
        statistic = self._buffer[: self._statistic.numel()].view_as(self._statistic)
        losses = None if self._losses is None else self._buffer[self._statistic.numel() :]
        return statistic, losses

    def values(self) -> list[float]:
        """The reduced statistic in Python's floats, flat."""
        values: list[float] = self.wait()[0].flatten().tolist()
        return values

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no connections."""
        statistic, losses = self.wait()
        return {"_statistic": statistic, "_losses": losses, "_buffer": None, "_work": None}


class PendingGramian:
    """An (M, M) Gramian in Python's floats: known, or a sum under way."""

    def __init__(self, num_tasks: int, source: Sequence[float] | DirectSum) -> None:
        self._num_tasks = num_tasks
        self.source = source
        """(M * M)."""

    def wait(self) -> tuple[Tensor, None]:
        """The reduced Gramian, (M, M) float64; and no losses."""
        gramian = torch.tensor(self.values(), dtype=torch.float64, device="cpu")
        return gramian.view(self._num_tasks, self._num_tasks), None

    def values(self) -> Sequence[float]:
        """The reduced Gramian in Python's floats, flat."""
        return self.source.wait() if isinstance(self.source, DirectSum) else self.source

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no connections."""
        return {**vars(self), "source": list(self.values())}
