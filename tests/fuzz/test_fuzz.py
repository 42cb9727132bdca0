"""A small part of the fuzzing, and a target with every kind of fault."""

import os
import random
import time
from pathlib import Path

import pytest

from tests.fuzz.campaign import input_of, run
from tests.fuzz.target import MESSAGE_LENGTH, Target, WrongError
from tests.fuzz.targets.catalog import TARGETS

INPUTS = 50


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs_are_right_or_refused(name: str, tmp_path: Path) -> None:
    report = run(name, TARGETS[name], 0, range(INPUTS), tmp_path)
    assert report.faults == {}
    assert report.outcomes["refused"] > 0
    assert report.outcomes.total() == INPUTS


def odd_target(directory: Path) -> Target:
    """Every input has an outcome of its own, by its number."""
    answers = iter(range(100))

    def attempt(data: bytes) -> None:
        match next(answers):
            case 0:
                raise ValueError("refused")
            case 1:
                raise KeyError("refused")
            case 2:
                raise ValueError("x" * (MESSAGE_LENGTH + 1))
            case 3:
                raise OSError("\x1b[31m")
            case 4:
                raise WrongError("this")
            case 5:
                os.abort()

    return Target("odd", lambda draw: draw.randbytes(4), attempt)


def hanging_target(directory: Path) -> Target:
    return Target("hanging", lambda draw: b"", lambda data: time.sleep(600))


def test_faults_are_found(tmp_path: Path) -> None:
    report = run("odd", odd_target, 0, range(7), tmp_path)
    assert report.outcomes == {"refused": 2}  # the process is restarted after its end
    kinds = {number: fault.split(" ")[0] for number, fault in report.faults.items()}
    assert kinds == {1: "traceback:", 2: "a", 3: "a", 4: "something", 5: "crash:"}
    report = run("hanging", hanging_target, 0, [0], tmp_path, answer_s=0.2)
    assert report.faults == {0: "hang: no answer"}


def test_an_input_follows_from_seed_and_number() -> None:
    target = Target("any", lambda draw: draw.randbytes(8), lambda data: None)
    inputs = {input_of(target, seed, number) for seed in (0, 1) for number in range(10)}
    assert len(inputs) == 20
    assert input_of(target, 0, 3) == random.Random("any-0-3").randbytes(8)
