"""SIGTERM as a request."""

import os
import signal

from dlrm_mtl.ending import TERMINATED
from dlrm_mtl.training.interruption import termination_requested


def test_sigterm_is_noted_however_often_it_comes() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with termination_requested() as requested:
        assert not requested()
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            assert requested()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_request_does_not_outlive_its_context() -> None:
    with termination_requested():
        os.kill(os.getpid(), signal.SIGTERM)
    with termination_requested() as requested:
        assert not requested()


def test_a_request_is_heard_outside_too() -> None:
    with termination_requested() as requested:
        with termination_requested() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner()
        assert requested()


def test_exit_code() -> None:
    assert TERMINATED == 143
