"""The child processes of a process."""

from pathlib import Path

from dlrm_mtl.data import reader_process

LIMIT_S = 10
"""Seconds within which all processes of a run have ended."""


def children_of(pid: int) -> list[int]:
    """Process ids of the running children, without zombies."""
    return [child for child, (parent, state) in _processes().items() if parent == pid and state != "Z"]


def readers_of(pid: int) -> list[int]:
    """Process ids of the reader processes among the children."""
    return [child for child in children_of(pid) if reader_process.__name__ in _command(child)]


def processes_with(variable: str, value: str) -> dict[int, str]:
    """Command lines of all processes with a variable in their environment, by process id."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if f"{variable}={value}".encode() in (directory / "environ").read_bytes().split(b"\0"):
                found[int(directory.name)] = _command(int(directory.name))
        except OSError:
            continue  # it has just ended
    return found


def _command(pid: int) -> str:
    """Its command line; empty if it has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _processes() -> dict[int, tuple[int, str]]:
    """Parent and state of every process, by process id."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it has just ended
        found[int(file.parent.name)] = (int(parent), state)
    return found
