"""The run directory: what makes a run reproducible and resumable."""

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dlrm_mtl.cli import as_dict
from dlrm_mtl.config import RunConfig
from dlrm_mtl.files import read_json, write_json


def open_run_directory(config: RunConfig) -> None:
    """Creates the directory and writes ``config.json``, or finds that of the same run, which then goes on.

    Raises:
        ValueError: the directory holds a run with another configuration, or something else.
    """
    path = config.out / "config.json"
    wanted = as_dict(config)
    if path.is_file():
        found = read_json(path)
        different = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        if different:
            key = different[0]
            raise ValueError(
                f"{path}: another run is here, with {key}={found.get(key)!r} where this one has {wanted.get(key)!r};"
                " give another --out"
            )
        return
    if config.out.exists() and any(config.out.iterdir()):
        raise ValueError(f"{config.out}: is not empty and has no config.json of a run; give another --out")
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(path, wanted)


def describe_environment(versions: dict[str, str], world_size: int, device: str) -> dict[str, Any]:
    """Versions, machine, command and time of a run."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "versions": versions,
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "world_size": world_size,
        "device": device,
        "threads_per_rank": os.environ.get("OMP_NUM_THREADS"),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
