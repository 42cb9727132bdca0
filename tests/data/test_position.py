"""The data position: how it advances, and its way through JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mtl.data.position import Phase, Position
from tests.messages import naming

STEPS = 10


def test_steps_on_the_same_ranks_are_one_phase() -> None:
    position = Position(3).advance(4, 2, 1, STEPS).advance(0, 1, 1, STEPS).advance(2, 2, 1, STEPS)
    assert position == Position(3, (Phase(2, 1, 6),))
    assert position.advance(1, 2, 2, STEPS).advance(1, 1, 2, STEPS).phases == (
        Phase(2, 1, 6),
        Phase(2, 2, 1),
        Phase(1, 2, 1),
    )


def test_the_end_of_an_epoch_is_the_beginning_of_the_next() -> None:
    begun = Position().advance(7, 2, 1, STEPS)
    assert begun.advance(3, 1, 1, STEPS) == Position(1)
    assert begun.advance(4, 1, 1, STEPS) == Position(1, (Phase(1, 1, 1),))
    assert begun.advance(33, 1, 1, STEPS) == Position(4)


@given(
    st.lists(st.tuples(st.integers(0, 25), st.integers(1, 3), st.integers(1, 3)), max_size=8),
    st.integers(1, 12),
)
def test_no_step_is_lost(parts: list[tuple[int, int, int]], steps_per_epoch: int) -> None:
    position = Position()
    for steps, world_size, workers in parts:
        position = position.advance(steps, world_size, workers, steps_per_epoch)
        assert Position.from_json(json.loads(json.dumps(position.as_json()))) == position
    assert position.steps < steps_per_epoch
    assert position.epoch * steps_per_epoch + position.steps == sum(steps for steps, _, _ in parts)


def test_going_back_is_refused() -> None:
    with pytest.raises(ValueError, match=naming(-1)):
        Position().advance(-1, 1, 1, STEPS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "None, expected an object of epoch and phases"),
        ({"epoch": 1}, "expected an object of epoch and phases"),
        ({"epoch": -1, "phases": []}, "epoch is -1, expected an integer of at least 0"),
        ({"epoch": True, "phases": []}, "epoch is True, expected an integer"),
        ({"epoch": 0, "phases": {}}, "phases are {}, expected a list"),
        ({"epoch": 0, "phases": [[1, 2]]}, r"phase \[1, 2\], expected \[world_size, workers, steps\]"),
        ({"epoch": 0, "phases": [[1, 0, 2]]}, "workers is 0, expected an integer of at least 1"),
        ({"epoch": 0, "phases": [[1, 1, 2.0]]}, "steps is 2.0, expected an integer of at least 1"),
        ({"epoch": 0, "phases": [["1", 1, 2]]}, "world_size is '1', expected an integer of at least 1"),
    ],
)
def test_anything_else_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Position.from_json(value)
