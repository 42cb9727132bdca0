"""Failures of ranks, as ranks send them to each other and as the user reads them."""

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
        begun: number of steps of all kinds that it has begun.
        where: what the last of them is part of, such as ``training``.
        step: number of that step in ``where``.
        line: function, file and line that the main thread executes.
    """

    begun: int = 0
    where: str = ""
    step: int = 0
    line: str = ""


class Kind(IntEnum):
    """Kinds of failures. Of failures at about the same time, the one of the lowest kind is the cause of the others."""

    ERROR = 0
    LOST = 1
    TIMEOUT = 2
    SUSPECT = 3
    """A RuntimeError, which a collective raises when another rank has ended, but a defect may raise as well."""


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
    """The failure of a rank that an exception ends."""
    kind = Kind.SUSPECT if isinstance(error, RuntimeError) else Kind.ERROR
    return Failure(kind, rank, exit_code(error), describe(error))


def announce(failure: Failure, *, of_all: bool = False) -> None:
    """Shows a failure on stderr, with its rank unless ``of_all``: all ranks have it, or its text names the ranks."""
    program = Path(sys.argv[0]).stem
    if "\n" in failure.text:
        message = f"{program}: rank {failure.rank} failed\n{failure.text}"
    else:
        message = f"{program}: {failure.text}" + (f" (rank {failure.rank})" if failure.rank and not of_all else "")
    complain(message)


def format_positions(positions: Mapping[int, Position]) -> str:
    """``rank 1 at training step 6; ranks 0, 2-4 at training step 7, in all_reduce``; the earliest position first."""
    ranks_at: dict[Position, list[int]] = defaultdict(list)
    for rank, position in positions.items():
        ranks_at[position].append(rank)
    parts = []
    for (begun, where, step, line), ranks in sorted(ranks_at.items()):
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
