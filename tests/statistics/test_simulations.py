"""A small share of ``python -m tests.statistics``."""

from dataclasses import asdict, replace

import pytest

from tests.statistics import claims
from tests.statistics.campaign import Finding, count
from tests.statistics.scenarios import MANY, NAIVE, NEW, RARE, SCENARIOS, Scenario
from tests.statistics.table import format_findings, is_off


def findings(name: str, scenario: Scenario, comparisons: int) -> dict[str, Finding]:
    return {finding.claim: finding for finding in count(name, scenario, range(comparisons))}


def test_intervals_for_new_traffic_hold_the_truth_and_those_over_seeds_do_not() -> None:
    scenario = Scenario(
        replace(RARE, seeds=8),
        covers={NEW: claims.new_traffic("ne"), "rows": claims.these_models(), "AUC": claims.new_traffic("auc")},
        shows={NAIVE: claims.seeds_for_new_traffic()},
    )
    found = findings("new traffic", scenario, 25)
    for claim in scenario.covers:
        assert found[claim].of == 25
        assert not is_off(asdict(found[claim])), found[claim]
    assert is_off({**asdict(found[NAIVE]), "kind": "covers"})


def test_many_arms_without_an_effect_find_nothing() -> None:
    world = replace(MANY, arms=4, rates=(0.3, 0.05), gains=(0.0, 0.0))
    scenario = replace(SCENARIOS["16 arms, 5 tasks, no effect, 3 seeds"], world=world)
    found = findings("many", scenario, 12)
    assert not [finding for finding in found.values() if is_off(asdict(finding))]
    assert found["an interval above 0 of any arm on any task"].of == 12


def test_a_task_that_loses_is_not_called_safe() -> None:
    scenario = SCENARIOS["2 tasks, one loses 0.05, 5 seeds"]
    world = replace(scenario.world, rows=4000)
    found = findings("loses", replace(scenario, world=world), 12)
    assert {finding.true for finding in found.values()} == {0}


def test_the_same_comparisons_are_the_same() -> None:
    scenario = SCENARIOS["QPS, 1 seed, 6 windows"]
    first, again = (count("QPS", scenario, range(4)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("kind", "true", "of", "off"),
    [
        ("covers", 380, 400, False),
        ("covers", 340, 400, True),
        ("errs", 20, 400, False),
        ("errs", 60, 400, True),
        ("shows", 0, 400, False),
    ],
)
def test_what_is_off(kind: str, true: int, of: int, off: bool) -> None:
    finding = asdict(Finding("world", kind, "claim", true, of))
    assert is_off(finding) == off
    assert f"| world | claim | {100 * true / of:.1f} |" in format_findings([finding])
