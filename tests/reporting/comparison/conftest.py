"""Three seeds, summarized and with what rows contribute."""

from typing import Any

import pytest

from dlrm_mtl.reporting.effects.gains import Gains, gains_of_seed
from tests.reporting.comparison.comparing import results, summary


@pytest.fixture(scope="session")
def seeds() -> list[dict[str, Any]]:
    return [summary(seed) for seed in range(3)]


@pytest.fixture(scope="session")
def gains() -> dict[int, dict[str, Gains]]:
    evaluations = ({arm: result.evaluation for arm, result in results(seed).items()} for seed in range(3))
    return {seed: gains_of_seed(arms, "mean") for seed, arms in enumerate(evaluations)}
