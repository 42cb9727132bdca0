"""Ranks: shared errors, shared values, and a job of one process without a launcher."""

import os
import subprocess
import sys

import pytest

from dlrm_mtl.distributed.processes import Ranks, process_group
from tests.messages import mentions, naming
from tests.ranks import RankPool


def run_on_all(ranks: Ranks, failing: list[int], kind: type[Exception]) -> str:
    """What ``Ranks.run_on_all`` returns or raises where the action fails on some ranks."""

    def action() -> int:
        if ranks.rank in failing:
            raise kind(f"rank {ranks.rank} is unhappy")
        return 10 * ranks.rank

    try:
        return f"returned {ranks.run_on_all(action)}"
    except ValueError as error:
        return f"raised {error}"


def run_twice(ranks: Ranks) -> tuple[str, str]:
    return run_on_all(ranks, [1], ValueError), run_on_all(ranks, [], ValueError)


def share(ranks: Ranks) -> tuple[str, bool, int]:
    return ranks.broadcast(f"from {ranks.rank}"), ranks.is_first, ranks.world_size


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError])
@pytest.mark.parametrize("failing", [[0], [1], [2], [1, 2]])
def test_an_error_on_one_rank_is_raised_on_all(rank_pool: RankPool, failing: list[int], kind: type[Exception]) -> None:
    assert rank_pool.run(3, run_on_all, failing, kind) == [f"raised rank {failing[0]} is unhappy"] * 3


def unusual_failure(ranks: Ranks) -> str:
    """What each rank raises where rank 1 fails for a reason that is not the user's."""
    try:
        run_on_all(ranks, [1], KeyError)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def test_another_kind_of_error_ends_all_ranks_too(rank_pool: RankPool) -> None:
    first, second = rank_pool.run(2, unusual_failure)
    assert mentions(first, "RuntimeError", "rank 1")
    assert second.startswith("KeyError: ")


def test_without_an_error_each_rank_has_its_own_result(rank_pool: RankPool) -> None:
    assert rank_pool.run(3, run_on_all, [], ValueError) == ["returned 0", "returned 10", "returned 20"]


def test_the_job_goes_on_after_an_error(rank_pool: RankPool) -> None:
    assert rank_pool.run(2, run_twice) == [
        ("raised rank 1 is unhappy", "returned 0"),
        ("raised rank 1 is unhappy", "returned 10"),
    ]


def test_share(rank_pool: RankPool) -> None:
    assert rank_pool.run(3, share) == [("from 0", True, 3), ("from 0", False, 3), ("from 0", False, 3)]


ALONE = """
import os, socket
import torch.distributed as dist
from dlrm_mtl.distributed.processes import process_group

def listening():
    own = {os.readlink(f"/proc/self/fd/{file}") for file in os.listdir("/proc/self/fd") if file.isdigit()
           and os.path.lexists(f"/proc/self/fd/{file}")}
    for table in ("tcp", "tcp6"):
        for line in open(f"/proc/self/net/{table}").read().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in own:
                host, port = columns[1].split(":")
                assert (table, host) == ("tcp", "0100007F"), columns[1]
                yield "127.0.0.1", int(port, 16)

for repetition in range(2):
    with process_group(30) as ranks:
        strangers = [socket.create_connection(place) for place in listening()]
        for stranger in strangers:
            stranger.sendall(b"[" * 100_000)
        ranks.synchronize()
        print(ranks.rank, ranks.world_size, ranks.local_world_size, ranks.is_first, ranks.broadcast("x"))
    assert not dist.is_initialized()
try:
    with process_group(30):
        raise KeyError
except KeyError:
    print("left:", not dist.is_initialized())
"""


def test_a_plain_process_is_a_job_of_one_that_this_machine_alone_can_reach() -> None:
    named = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {name: value for name, value in os.environ.items() if name not in named}
    result = subprocess.run(
        [sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["0 1 1 True x"] * 2 + ["left: True"]


def test_restarts_that_may_hang_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_MAX_RESTARTS": "3"}
    for name, value in {**launcher, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=naming("dlrm_mtl.torchrun")), process_group(30):
        pass
