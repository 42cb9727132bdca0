"""``status.json``: how far a run has come, for people and programs outside of it."""

import os
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from dlrm_mtl.files import write_json, write_text
from dlrm_mtl.monitoring.background import Background
from dlrm_mtl.monitoring.prometheus import as_prometheus

STATUS_FILE = "status.json"
PERIOD_S = 1.0
"""Seconds between two writes while a run goes on."""
END_S = 2.0
"""Seconds that the end of a run waits for its last status to be written."""


class Status:
    """What is known of a run, and the files that say it. They are written by a thread, always whole.

    Args:
        directory: of the run.
        prometheus: file for the same as Prometheus text; None: there is none.
    """

    def __init__(self, directory: Path, prometheus: Path | None) -> None:
        self._directory = directory
        self._prometheus = prometheus
        self._facts: dict[str, Any] = {"status": "running", "host": socket.gethostname(), "process": os.getpid()}
        self._lock = Lock()
        self._writer = Background("status.json")
        self._last_write = -PERIOD_S
        self._begun = False

    def set(self, **facts: Any) -> None:
        """Replaces facts by JSON values."""
        with self._lock:
            self._facts.update(facts)

    def set_arm(self, arm: str, facts: Mapping[str, Any]) -> None:
        """Replaces facts of an arm."""
        with self._lock:
            arms = self._facts.get("arms", {})
            self._facts["arms"] = {**arms, arm: {**arms.get(arm, {}), **facts}}

    def write_soon(self) -> None:
        """Writes the files, unless that was done just now. The run directory must be open."""
        self._begun = True
        now = time.monotonic()
        if now - self._last_write >= PERIOD_S and not self._writer.waits:
            self._last_write = now
            self._writer.submit(self._write)

    def end(self, status: str, error: str | None = None) -> None:
        """Writes how the run has ended, if its directory was opened."""
        self.set(status=status, **({"error": error} if error else {}))
        if self._begun:
            self._writer.submit(self._write)
        self._writer.close(END_S)

    def _write(self) -> None:
        with self._lock:
            facts = {**self._facts, "time": now_text()}
        write_json(self._directory / STATUS_FILE, facts)
        if self._prometheus is not None:
            write_text(self._prometheus, as_prometheus(facts, str(self._directory)))


def now_text() -> str:
    """The present time in UTC, of ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
