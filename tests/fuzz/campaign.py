"""Many changed inputs of a target, in processes that may hang or crash."""

import os
import random
import resource
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz.target import Target, TargetFactory, outcome_of
from tests.preloaded import preloading_context

ANSWER_S = 10.0
"""Seconds in which an input must be answered."""
START_S = 300.0
MEMORY_BYTES = 16 << 30
INPUTS_PER_PROCESS = 500


@dataclass
class Report:
    """Counts of the outcomes of a target's inputs."""

    target: str
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[int, str] = field(default_factory=dict)
    """Faults by the input's number."""

    def add(self, number: int, outcome: str) -> None:
        if outcome in ("accepted", "refused"):
            self.outcomes[outcome] += 1
        else:
            self.faults[number] = outcome

    def __str__(self) -> str:
        line = f"{self.target:10} {self.outcomes['refused']:8} {self.outcomes['accepted']:8} {len(self.faults):6}"
        return "\n".join([line, *(f"    input {number}: {fault}" for number, fault in sorted(self.faults.items()))])


def input_of(target: Target, seed: int, number: int) -> bytes:
    """An input, as a function of seed and number alone."""
    return target.mutate(random.Random(f"{target.name}-{seed}-{number}"))


def run(
    name: str,
    factory: TargetFactory,
    seed: int,
    numbers: Sequence[int],
    directory: Path,
    answer_s: float = ANSWER_S,
) -> Report:
    """Tries inputs in a separate process, which is restarted after a hang or crash, and regularly, since refused runs
    leave threads and process groups behind.

    Args:
        factory: creates the target; at the top of a module.
        directory: for the target's files.
    """
    report = Report(name)
    left = list(numbers)
    context = preloading_context()
    while left:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(factory, seed, left[:INPUTS_PER_PROCESS], directory, sender))
        process.start()
        sender.close()
        patience, fault = START_S, None
        end = len(left) - len(left[:INPUTS_PER_PROCESS])
        while len(left) > end:
            fault = "hang: no answer" if not receiver.poll(patience) else None
            try:
                outcome = fault or receiver.recv()
            except EOFError:
                process.join()
                fault = outcome = f"crash: the process ended with {process.exitcode}"
            if outcome != "ready":
                report.add(left.pop(0), outcome)
            if fault:
                break
            patience = answer_s
        if fault:
            process.kill()
        process.join(START_S)
    return report


def _work(factory: TargetFactory, seed: int, numbers: Sequence[int], directory: Path, sender: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Output of targets is discarded.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    with tempfile.TemporaryDirectory(dir=directory) as own:
        target = factory(Path(own))
        sender.send("ready")
        for number in numbers:
            sender.send(outcome_of(target, input_of(target, seed, number)))
