"""Many comparisons of every scenario, and how often their claims are true."""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch

from tests.statistics.scenarios import SCENARIOS, Scenario
from tests.statistics.world import draw


@dataclass(frozen=True)
class Finding:
    """How often a claim was true in the comparisons of a scenario."""

    scenario: str
    kind: str
    """``covers``, ``errs`` or ``shows``, see :class:`tests.statistics.scenarios.Scenario`."""
    claim: str
    true: int
    of: int

    @property
    def broadcast(self) -> float:
        return self.true / self.of


def count(name: str, scenario: Scenario, numbers: Iterable[int], seed: int = 0) -> list[Finding]:
    """Simulates comparisons by number; each is a function of seed, scenario and number."""
    true: Counter[tuple[str, str]] = Counter()
    of: Counter[tuple[str, str]] = Counter()
    for number in numbers:
        drawn = draw(
            scenario.world, np.random.default_rng([seed, zlib.crc32(name.encode()), number]), scenario.other_seeds
        )
        for kind, claim, test in scenario.claims():
            answers = [bool(answer) for answer in test(drawn)]
            true[kind, claim] += sum(answers)
            of[kind, claim] += len(answers)
    return [Finding(name, *key, true[key], of[key]) for key in of]


def simulate(names: Sequence[str], fraction: float, processes: int, seed: int = 0) -> Iterator[list[Finding]]:
    """The findings of each scenario, in their order, from a fraction of its comparisons."""
    with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        futures = []
        for name in names:
            comparisons = max(1, round(fraction * SCENARIOS[name].comparisons))
            shares = [range(first, comparisons, processes) for first in range(min(processes, comparisons))]
            futures.append([pool.submit(_count_named, name, share, seed) for share in shares])
        for of_scenario in futures:
            yield _add_up([finding for future in of_scenario for finding in future.result()])


def _count_named(name: str, numbers: Sequence[int], seed: int) -> list[Finding]:
    return count(name, SCENARIOS[name], numbers, seed)


def _add_up(findings: Sequence[Finding]) -> list[Finding]:
    parts: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        parts.setdefault((finding.scenario, finding.kind, finding.claim), []).append(finding)
    return [Finding(*key, sum(f.true for f in own), sum(f.of for f in own)) for key, own in parts.items()]
