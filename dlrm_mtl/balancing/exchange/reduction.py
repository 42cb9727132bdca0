"""All-reduce of a step's statistics over the ranks that share the global batch."""

from typing import Any, Self

import numpy as np
import torch.distributed as dist

from dlrm_mtl.balancing.algebra.arrays import Array, namespace, to_tensor
from dlrm_mtl.balancing.exchange.direct_exchange import MAX_VALUES, DirectExchange, DirectSum, connect_ranks


class Reducer:
    """Turns the statistics of each rank into those of the global batch, by one all-reduce.

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
        """The group whose ranks have tried to share memory."""

    @property
    def world_size(self) -> int:
        group = self._group
        return 1 if group is None else group.size()

    def start(self, statistic: Array, degree: int, losses: Array | None) -> "PendingReduction":
        """Starts the all-reduce and does not wait. Collective.

        Args:
            statistic: float64, any shape; a NumPy array where the host can read it.
            degree: of the statistic in the gradients.
            losses: (M,) local mean losses, float64, or None.
        """
        world_size = self.world_size
        if world_size == 1:
            return PendingReduction(statistic, losses, None, None)
        parts = [statistic.reshape(-1) / world_size**degree]
        if losses is not None:
            parts.append(losses / world_size)
        buffer = namespace(statistic).concatenate(parts) if len(parts) > 1 else parts[0]
        direct = self._direct_exchange(len(buffer)) if isinstance(buffer, np.ndarray) else None
        if direct is not None:
            return PendingReduction(statistic, losses, buffer, direct.start(buffer.tolist()))
        work = dist.all_reduce(to_tensor(buffer), group=self._process_group, async_op=True)
        return PendingReduction(statistic, losses, buffer, work)

    def _direct_exchange(self, count: int) -> DirectExchange | None:
        """The exchange in shared memory for this many values; None where the process group sums them. Collective."""
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
        """A copy connects anew."""
        return {**vars(self), "_exchange": None, "_connected": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Ranks share a process group, and so do copies."""
        return type(self)(self._process_group)


class PendingReduction:
    """An all-reduce that was started."""

    def __init__(
        self, statistic: Array, losses: Array | None, buffer: Array | None, work: dist.Work | DirectSum | None
    ) -> None:
        self._statistic = statistic
        self._losses = losses
        self._buffer = buffer
        self._work = work

    def wait(self) -> tuple[Array, Array | None]:
        """The reduced statistic and losses. On a GPU the stream waits, not the host."""
        if self._work is None or self._buffer is None:
            return self._statistic, self._losses
        sums = self._work.wait()
        if isinstance(self._work, DirectSum):
            self._buffer[:] = sums
        size = len(self._buffer) - (0 if self._losses is None else len(self._losses))
        losses = None if self._losses is None else self._buffer[size:]
        return self._buffer[:size].reshape(self._statistic.shape), losses

    def __getstate__(self) -> dict[str, Any]:
        """A copy holds the result."""
        statistic, losses = self.wait()
        return {"_statistic": statistic, "_losses": losses, "_buffer": None, "_work": None}
