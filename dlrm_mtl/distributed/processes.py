"""The process group, and this process as one of its ranks."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from dlrm_mtl.distributed.affinity import own_cpus
from dlrm_mtl.distributed.authentication import CONNECT_S, accept_ranks, connect, host_of_first, listen, store_address
from dlrm_mtl.distributed.coordinator import FailureCoordinator
from dlrm_mtl.distributed.links import Link, pair
from dlrm_mtl.distributed.network import describe, nccl_log
from dlrm_mtl.distributed.rendezvous import bounded_rendezvous, store_endpoint, store_of_one
from dlrm_mtl.distributed.watch import Watch
from dlrm_mtl.ending import REFUSED, exit_code
from dlrm_mtl.srun import become_rank

MARGIN_S = 10
"""Seconds that the backend's timeout exceeds the watch's, whose message says more about a collective that hangs."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """This process as a rank, and collectives of Python objects."""

    rank: int
    world_size: int
    local_world_size: int
    device: torch.device
    group: dist.ProcessGroup
    network: str = ""
    """What the ranks communicate by, for people; empty for one rank. Rank 0 knows NCCL's network."""
    watch: Watch = field(default_factory=Watch)

    @property
    def is_first(self) -> bool:
        """Rank 0 of all nodes: the one that prints and writes."""
        return self.rank == 0

    def synchronize(self) -> None:
        """Waits until every rank has finished its work so far, on the device too."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        dist.barrier(group=self.group)

    def broadcast(self, value: Result) -> Result:
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

    def run_on_all(self, action: Callable[[], Result]) -> Result:
        """Runs an action on every rank. If it fails on one, every rank raises, instead of waiting for that rank in a
        later collective. Collective.

        Returns:
            this rank's result.

        Raises:
            ValueError: with the message of the first rank whose error is the user's or the file system's.
            RuntimeError: on the other ranks, if an action fails otherwise; the failing one raises its own error.
        """
        result: Result | None = None
        own_error: Exception | None = None
        try:
            result = action()
        except Exception as error:
            own_error = error
        is_users = own_error is not None and exit_code(own_error) == REFUSED
        for rank, failure in enumerate(self.gather(None if own_error is None else (is_users, str(own_error)))):
            if failure is None:
                continue
            is_users, message = failure
            if is_users:
                raise ValueError(message)
            raise own_error or RuntimeError(f"rank {rank} failed: {message}")
        return result  # type: ignore[return-value]


@contextmanager
def process_group(timeout_s: int) -> Iterator[Ranks]:
    """Joins the job's process group and leaves it properly: torchrun and TorchX set RANK, WORLD_SIZE, LOCAL_RANK,
    MASTER_ADDR and MASTER_PORT, in tasks of srun :func:`dlrm_mtl.srun.become_rank` does; without them this is a job of
    one process.

    NCCL, one process per GPU, where there are GPUs; gloo elsewhere, each process on CPUs of its own (:func:`own_cpus`).

    In a job of several ranks, an exception on one rank, or the end of its process, ends all of them within seconds, see
    :class:`Watch`. In a job of one rank the exception is raised unchanged. A SystemExit must be raised by all ranks.
    Ranks that do not connect in time end with exit code 1, see :func:`bounded_rendezvous`.

    Args:
        timeout_s: seconds after which a step or collective that does not complete ends the job.

    Raises:
        ConnectionError: the ranks cannot connect.
        ValueError: more processes on a node than it has GPUs; a launcher whose restarts may hang; tasks of srun that
            :func:`dlrm_mtl.srun.become_rank` refuses.
    """
    become_rank()
    _default_environment()
    _check_restarts()
    local_rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cpu")
    if torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"local rank {local_rank}, but this node has {torch.cuda.device_count()} GPUs: one process each"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    binding = own_cpus(local_rank, local_world_size) if device.type == "cpu" else nullcontext()
    with binding, _join(device, local_world_size, timeout_s) as ranks:
        yield ranks


@contextmanager
def _join(device: torch.device, local_world_size: int, timeout_s: int) -> Iterator[Ranks]:
    try:
        with bounded_rendezvous(timeout_s + MARGIN_S):
            group, network = _init_process_group(device, local_world_size, timeout_s + MARGIN_S)
            ranks = Ranks(dist.get_rank(), dist.get_world_size(), local_world_size, device, group, network)
            ranks = replace(ranks, watch=_start_watch(ranks, timeout_s))
        stop: SystemExit | None = None
        try:
            try:
                yield ranks
            except SystemExit as error:
                stop = error
            ranks.watch.pause()
            # A rank that leaves while others still communicate with it makes them fail.
            dist.barrier()
        except BaseException as error:
            if ranks.world_size > 1:
                ranks.watch.fail(error)
            ranks.watch.leave()  # a job of one rank raises to its caller
            raise
        ranks.watch.leave()
        if stop is not None:
            raise stop
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _init_process_group(device: torch.device, local_world_size: int, timeout_s: int) -> tuple[dist.ProcessGroup, str]:
    """The process group, and :attr:`Ranks.network`."""
    alone = os.environ["WORLD_SIZE"] == "1"
    on_gpu = device.type == "cuda"
    try:
        with nccl_log(wanted=on_gpu and os.environ["RANK"] == "0") as log:
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
                store=store_of_one() if alone else None,
                rank=0 if alone else -1,
                world_size=1 if alone else -1,
                timeout=timedelta(seconds=timeout_s),
                # Otherwise NCCL guesses the GPU of a barrier.
                device_id=device if on_gpu else None,
            )
            if on_gpu and not alone:
                dist.all_reduce(torch.zeros(1, device=device))  # connects NCCL, which then has chosen its network
                torch.cuda.synchronize(device)
            network = "" if alone else describe(device, dist.get_world_size(), local_world_size, log())
    except dist.DistError as error:
        reason = str(error).splitlines()[0]
        text = f"the {os.environ['WORLD_SIZE']} ranks did not meet at {store_endpoint()}: {reason}"
        raise ConnectionError(text) from None
    group = dist.group.WORLD
    assert group is not None
    return group, network


def _connect_ranks(ranks: Ranks) -> dict[int, Link]:
    """On rank 0, connections to all other ranks, by rank; elsewhere the one to rank 0. Collective."""
    addresses = ranks.gather(ranks.run_on_all(store_address))
    opened = ranks.run_on_all(lambda: listen(host_of_first(addresses)) if ranks.is_first else None)
    endpoint = ranks.broadcast(opened and opened[1])
    assert endpoint is not None
    deadline = time.monotonic() + CONNECT_S
    others = frozenset(range(1, ranks.world_size))

    def connect_rank() -> dict[int, Link]:
        if opened is None:
            return {0: connect(endpoint, ranks.rank, deadline)}
        return accept_ranks(opened[0], endpoint.secret, others, deadline)

    return ranks.run_on_all(connect_rank)


def _start_watch(ranks: Ranks, timeout_s: int) -> Watch:
    links = _connect_ranks(ranks) if ranks.world_size > 1 else {}
    coordinator: FailureCoordinator | None = None
    if ranks.is_first:
        links[0], coordinators_link = pair(0)
        coordinator = FailureCoordinator({**links, 0: coordinators_link})
    deputy = ranks.rank == 1 or ranks.rank % ranks.local_world_size == 0
    return Watch(ranks.rank, links[0], coordinator, timeout_s, deputy)


def _default_environment() -> None:
    if "RANK" in os.environ:
        os.environ.setdefault("LOCAL_RANK", "0")
        return
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1")


def _check_restarts() -> None:
    """Raises a ValueError for a torchrun that keeps its store over restarts: new processes would find the addresses of
    dead ones there and wait for them (pytorch #135712, #167288)."""
    if (
        os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0
        and int(os.environ["WORLD_SIZE"]) > 1
    ):
        raise ValueError(
            "restarts of torchrun may hang: start python -m dlrm_mtl.torchrun in its place, with --standalone or"
            " --rdzv_backend c10d"
        )
