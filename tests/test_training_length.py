"""Runs that are too short, and the options that make them long enough."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mtl.training_length import ENOUGH_STEPS, TrainingLength


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        (TrainingLength(18_000, 2048, 1, None, 1), 8),
        (TrainingLength(18_000, 2048, 3, None, 1), 24),
        (TrainingLength(18_000, 2048, 3, 20, 1), 20),
        (TrainingLength(18_000, 2048, 3, 200, 1), 24),
        (TrainingLength(18_000, 2048, 2, None, 1, padded=True), 18),
        (TrainingLength(18_432, 2048, 2, None, 1, padded=True), 18),
    ],
)
def test_steps(length: TrainingLength, steps: int) -> None:
    assert length.steps == steps
    assert TrainingLength.from_json(length.as_json()) == length


@pytest.mark.parametrize("length", [TrainingLength(100, 1, 1, None, 1), TrainingLength(10**9, 2048, 1, 100, 8)])
def test_a_run_of_a_hundred_steps_is_long_enough(length: TrainingLength) -> None:
    assert length.steps == ENOUGH_STEPS
    assert length.warning() is None


def test_a_batch_is_advised_that_the_ranks_divide() -> None:
    assert "--batch-size 180 " in (TrainingLength(18_000, 2048, 1, None, 1).warning() or "")
    assert "--batch-size 176 " in (TrainingLength(18_000, 2048, 1, None, 16).warning() or "")
    assert "--batch-size 529 " in (TrainingLength(18_000, 2048, 3, None, 1).warning() or "")


@given(
    st.integers(1, 10**6), st.integers(1, 4096), st.integers(1, 200), st.none() | st.integers(1, 300), st.integers(1, 9)
)
def test_the_advice_makes_the_run_long_enough(
    rows: int, per_rank: int, epochs: int, max_steps: int | None, ranks: int
) -> None:
    length = TrainingLength(rows, per_rank * ranks, epochs, max_steps, ranks)
    warning = length.warning()
    assert (warning is None) == (length.steps >= ENOUGH_STEPS)
    if warning is None or length.batch_size > rows:
        return
    options = {name: int(value) for name, value in re.findall(r"--(batch-size|epochs|max-steps) (\d+)", warning)}
    assert options
    advised = replace(length, **{name.replace("-", "_"): value for name, value in options.items()})  # type: ignore[arg-type]
    assert advised.steps >= ENOUGH_STEPS
    assert advised.batch_size % ranks == 0
