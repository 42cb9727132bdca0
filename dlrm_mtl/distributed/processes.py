"""The process group and this process's place in it."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """This process among all."""

    rank: int
    world_size: int
    local_world_size: int
    device: torch.device
    group: dist.ProcessGroup

    @property
    def is_first(self) -> bool:
        """Rank 0 of all nodes: the one that prints and writes."""
        return self.rank == 0

    def synchronize(self) -> None:
        """Waits until every rank has finished its work so far, on the device too."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        dist.barrier(group=self.group)

    def share(self, value: Result) -> Result:
        """Rank 0's value, on every rank. Collective."""
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    def gather(self, value: Result) -> list[Result]:
        """Every rank's value, by rank, on every rank. Collective."""
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def any(self, *flags: bool) -> list[bool]:
        """Whether each flag is set on any rank. Collective."""
        joined = torch.tensor(flags, dtype=torch.int64)
        dist.all_reduce(joined, dist.ReduceOp.MAX, group=self.group)
        return [bool(flag) for flag in joined.tolist()]

    def agree(self, action: Callable[[], Result]) -> Result:
        """Runs an action on every rank; if it fails on one, every rank raises, instead of waiting for that rank in a
        later collective. Collective.

        Raises:
            ValueError: with the message of the first rank whose error is the user's or the file system's.
            RuntimeError: on the other ranks, if an action fails otherwise; the failing one raises its own error.
        """
        result: Result | None = None
        mine: Exception | None = None
        try:
            result = action()
        except Exception as error:
            mine = error
        usual = isinstance(mine, (ValueError, OSError))
        for rank, failure in enumerate(self.gather(None if mine is None else (usual, str(mine)))):
            if failure is None:
                continue
            is_usual, message = failure
            if is_usual:
                raise ValueError(message)
            raise mine or RuntimeError(f"rank {rank} failed: {message}")
        return result  # type: ignore[return-value]


@contextmanager
def process_group(timeout_s: int) -> Iterator[Ranks]:
    """Joins the job's process group and leaves it properly: torchrun, TorchX and srun set RANK, WORLD_SIZE, LOCAL_RANK,
    MASTER_ADDR and MASTER_PORT; without them this is a job of one process.

    NCCL, one process per GPU, where there are GPUs; gloo elsewhere.

    Raises:
        ValueError: more processes on a node than it has GPUs.
    """
    _default_environment()
    local_rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cpu")
    if torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"local rank {local_rank}, but this node has {torch.cuda.device_count()} GPUs: one process each"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    bound = device if device.type == "cuda" else None  # so that NCCL need not guess the GPU of a barrier
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s), device_id=bound)
    try:
        group = dist.group.WORLD
        assert group is not None
        rank, world_size = dist.get_rank(), dist.get_world_size()
        yield Ranks(rank, world_size, int(os.environ.get("LOCAL_WORLD_SIZE", world_size)), device, group)
        # A rank that leaves while others still talk to it takes them down.
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _default_environment() -> None:
    if "RANK" in os.environ:
        os.environ.setdefault("LOCAL_RANK", "0")
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in alone.items()}, MASTER_ADDR="127.0.0.1")
