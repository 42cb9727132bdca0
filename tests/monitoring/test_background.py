"""Calls whose failing and waiting does not matter to the caller."""

import threading
import time

import pytest

from dlrm_mtl.monitoring.background import Background
from tests.messages import mentions


def fail() -> None:
    raise OSError("the disk is full")


def test_calls_are_made_in_order_by_another_thread() -> None:
    made: list[tuple[int, str]] = []
    calls = Background("recorder")
    for number in range(20):
        calls.submit(lambda number=number: made.append((number, threading.current_thread().name)))  # type: ignore[misc]
    calls.close(30)
    assert made == [(number, "recorder") for number in range(20)]


def test_errors_are_counted_and_the_first_one_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    calls, made = Background("recorder"), []
    for _ in range(3):
        calls.submit(fail)
    calls.submit(lambda: made.append(1))
    calls.close(30)
    assert made == [1]
    assert calls.failures == 3
    first, last = capsys.readouterr().err.splitlines()
    assert mentions(first, "recorder", "the disk is full")
    assert mentions(last, "recorder", 3, 4)


def test_a_call_that_hangs_holds_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    release = threading.Event()
    calls = Background("recorder", limit=2)
    calls.submit(release.wait)
    while calls.waits:
        time.sleep(0.001)
    for _ in range(5):
        calls.submit(fail)
    calls.close(0.01)
    assert calls.failures == 3, "two wait, and three find no place"
    assert mentions(capsys.readouterr().err, "recorder", 3, 6)
    release.set()
