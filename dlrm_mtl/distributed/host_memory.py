"""The memory that a process may use: the machine's, or the limit of its container or job."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MEMBERSHIP = Path("/proc/self/cgroup")
HIERARCHIES = Path("/sys/fs/cgroup")
"""Where the control groups are mounted: version 2 here or under ``unified``, version 1's memory under ``memory``."""


def host_memory(membership: Path = MEMBERSHIP, hierarchies: Path = HIERARCHIES) -> int:
    """Bytes of memory that the processes of this job may use on this host together: the machine's, or the smallest
    limit of this process's control group and those above it.

    Args:
        membership: the file that names this process's control groups.
        hierarchies: the directory that the control groups are mounted in.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(membership, hierarchies)])


def _limits(membership: Path, hierarchies: Path) -> Iterator[int]:
    """Every limit that is set."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            places, file = [hierarchies, hierarchies / "unified"], "memory.max"
        elif "memory" in controllers.split(","):
            places, file = [hierarchies / "memory"], "memory.limit_in_bytes"
        else:
            continue
        for place in places:
            for directory in _with_those_above(group):
                yield from _limit(place / directory / file)


def _with_those_above(group: str) -> list[PurePosixPath]:
    """A control group and those above it, relative to the mount. In a container, whose own group may be mounted as the
    topmost, some of these paths of the host do not exist."""
    parts = [part for part in PurePosixPath(group).parts if part not in ("/", "..")]
    return [PurePosixPath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _limit(file: Path) -> Iterator[int]:
    try:
        text = file.read_text().strip()
    except OSError:
        return
    if text.isdecimal():  # otherwise "max": no limit
        yield int(text)
