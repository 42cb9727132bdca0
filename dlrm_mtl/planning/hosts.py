"""The smallest number of hosts that fits."""

from collections.abc import Callable, Sequence

LARGEST_SEARCHED = 1024
"""Ranks of the largest cluster that is tried."""


def host_counts(divides: Callable[[int], bool], ranks_per_host: int, hosts: int) -> list[int]:
    """Numbers of hosts whose ranks divide the batch, up to ``hosts`` or 1024 ranks, whichever is more."""
    largest = max(hosts, LARGEST_SEARCHED // ranks_per_host)
    return [count for count in range(1, largest + 1) if divides(count)]


def smallest_hosts(counts: Sequence[int], hosts: int, fits: bool, fits_on: Callable[[int], bool]) -> int | None:
    """The smallest number of hosts that fits; None if none does. Assumes that what fits on some hosts fits on more, so
    that few numbers need be tried.

    Args:
        counts: numbers of hosts to choose from, ascending.
        hosts: a number for which the answer is known.
        fits: that answer.
        fits_on: whether a plan for another number fits; fast for few hosts.
    """
    candidates = [count for count in counts if (count < hosts if fits else count > hosts)]
    smallest = _first_that_fits(candidates, fits_on)
    return hosts if smallest is None and fits else smallest


def _first_that_fits(counts: Sequence[int], fits_on: Callable[[int], bool]) -> int | None:
    """Doubles the stride, then bisects, so that large clusters, which take longest, are tried last."""
    if not counts:
        return None
    below, at, stride = -1, 0, 1
    while not fits_on(counts[at]):
        if at == len(counts) - 1:
            return None
        below, at, stride = at, min(at + stride, len(counts) - 1), 2 * stride
    while at - below > 1:
        middle = (below + at) // 2
        if fits_on(counts[middle]):
            at = middle
        else:
            below = middle
    return counts[at]
