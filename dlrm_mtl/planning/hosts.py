"""The smallest number of hosts that fits."""

from collections.abc import Callable, Sequence

LARGEST_SEARCHED = 1024
"""Ranks up to which a larger cluster is looked for."""


def host_counts(divides: Callable[[int], bool], ranks_per_host: int, hosts: int) -> list[int]:
    """Numbers of hosts whose ranks divide the batch, up to ``hosts`` or 1024 ranks, whichever is more."""
    largest = max(hosts, LARGEST_SEARCHED // ranks_per_host)
    return [count for count in range(1, largest + 1) if divides(count)]


def smallest_hosts(counts: Sequence[int], hosts: int, fits: bool, fits_on: Callable[[int], bool]) -> int | None:
    """The smallest of some numbers of hosts that fits, None if none does; a few of them are tried.

    It counts on a plan that fits on some hosts fitting on more of them.

    Args:
        counts: in ascending order.
        hosts: the number that is known.
        fits: whether it fits.
        fits_on: whether a plan for another number fits; quick for few hosts.
    """
    left = [count for count in counts if (count < hosts if fits else count > hosts)]
    found = _first_that_fits(left, fits_on)
    return hosts if found is None and fits else found


def _first_that_fits(counts: Sequence[int], fits_on: Callable[[int], bool]) -> int | None:
    """Strides that double, then bisection: large clusters, which take longest, are tried last."""
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
