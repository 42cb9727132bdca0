"""Conditions that come true after a while, and TCP ports that are free for now."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack


def wait_for(
    condition: Callable[[], object],
    limit_s: float,
    state: Callable[[], str],
    has_ended: Callable[[], bool] = lambda: False,
    poll_s: float = 0.02,
) -> None:
    """Waits until a condition is true.

    Args:
        state: what a failure shows.
        has_ended: whether what the condition depends on has ended, so that it cannot become true any more.

    Raises:
        AssertionError: the condition is false at the limit, or when all has ended.
    """
    end = time.monotonic() + limit_s
    while not condition():
        assert not has_ended(), state()
        assert time.monotonic() < end, f"not within {limit_s:g} s: {state()}"
        time.sleep(poll_s)


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def free_port() -> int:
    return free_ports(1)[0]
