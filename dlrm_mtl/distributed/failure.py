"""What ends a job: the failure of a rank, as ranks tell each other and as the user reads it."""

import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from dlrm_mtl.ending import complain, describe, exit_code


class Position(NamedTuple):
    """How far a rank has come.

    Attributes:
        begun: steps of whatever kind that it has begun.
        where: what the last of them is part of.
        step: its number there.
        line: what the main thread does just now.
    """

    begun: int = 0
    where: str = ""
    step: int = 0
    line: str = ""


class Kind(IntEnum):
    """Kinds of failures; of those that come at about the same time, the first kind explains the others."""

    ERROR = 0
    LOST = 1
    TIMEOUT = 2
    SUSPECT = 3
    """A RuntimeError: what collectives raise when a peer has gone, but also a defect."""


@dataclass(frozen=True)
class Failure:
    """One rank's failure.

    Attributes:
        code: exit code of the job.
        text: one line, or a traceback.
    """

    kind: Kind
    rank: int
    code: int
    text: str


def describe_error(error: BaseException, rank: int) -> Failure:
    """The failure of a rank that an exception has stopped."""
    kind = Kind.SUSPECT if isinstance(error, RuntimeError) else Kind.ERROR
    return Failure(kind, rank, exit_code(error), describe(error))


def announce(failure: Failure, *, of_all: bool = False) -> None:
    """Shows a failure on stderr; ``of_all``: every rank has it, or it speaks of the ranks itself."""
    program = Path(sys.argv[0]).stem
    if "\n" in failure.text:
        message = f"{program}: rank {failure.rank} failed\n{failure.text}"
    else:
        message = f"{program}: {failure.text}" + (f" (rank {failure.rank})" if failure.rank and not of_all else "")
    complain(message)


def format_positions(positions: Mapping[int, Position]) -> str:
    """``rank 1 at training step 6; ranks 0, 2-4 at training step 7, in all_reduce``: those that are behind first."""
    together: dict[Position, list[int]] = defaultdict(list)
    for rank, position in positions.items():
        together[position].append(rank)
    parts = []
    for (begun, where, step, line), ranks in sorted(together.items()):
        place = f"at {where} step {step}" if begun else "at no step yet"
        parts.append(f"{format_ranks(ranks)} {place}" + (f", in {line}" if line else ""))
    return "; ".join(parts)


def format_ranks(ranks: list[int]) -> str:
    """``rank 1`` or ``ranks 0, 2-4``."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    named = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"rank{'s' if len(ranks) > 1 else ''} {named}"
