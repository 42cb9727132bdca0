"""Runs entry points as a user would: as processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.preloaded import run_module

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
QUIET_CPU = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}


def environment() -> dict[str, str]:
    """Environment of processes; the virtual environment's programs come first on the path."""
    return {**os.environ, **QUIET_CPU, "PATH": f"{BIN}:{os.environ['PATH']}"}


def run(*command: str | Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Runs a command in the repository's root."""
    return subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=timeout
    )


def python(module: str, *arguments: str | Path, processes: int = 0) -> subprocess.CompletedProcess[str]:
    """``python -m module``, alone or as several ranks, with the libraries already imported. Use :func:`run` for tests
    of imports or launchers."""
    return run_module(module, [str(part) for part in arguments], environment(), ROOT, processes, timeout=600)


def complaint(process: subprocess.CompletedProcess[str]) -> str:
    """The one line in which an entry point refuses its input: exit code 2 and no traceback."""
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    lines = [line for line in process.stderr.splitlines() if re.match(r"\w+: ", line)]
    assert len(lines) == 1, process.stderr
    return lines[0]
