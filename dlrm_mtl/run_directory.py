"""The run directory, which makes a run reproducible and resumable."""

import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dlrm_mtl.cli import as_dict
from dlrm_mtl.files import is_leftover, read_object, remove_leftovers, write_json
from dlrm_mtl.json_lines import JsonLines
from dlrm_mtl.quoting import quote
from dlrm_mtl.run_config import TrainingConfig

CHANGEABLE = (
    *("data", "out", "reader.workers", "reader.prefetch", "checkpoint"),
    *(f"sharding.{name}" for name in ("kinds", "reserve", "min_partition", "kernels", "cache_load_factor", "prefetch")),
    *("timeout_s", "on_bad_shard", "check", "cache", "max_nonfinite_steps", "show_plan", "keep_models"),
    *("on_bad_day", "task_begins", "task_ends", "publish", "every", "logger", "prometheus", "mirror"),
)
"""Options that may change when a run is continued: where things are and how the work is done. All others define what is
trained. Checksums tell whether the data is the same, wherever it lies."""


def open_run_directory(config: TrainingConfig) -> dict[str, Any]:
    """Creates the directory and writes ``config.json``, or continues the same run that is there. Options that are new
    since the run began count as their defaults.

    Returns:
        the options that changed since the run began, with their present values.

    Raises:
        ValueError: the directory holds a run with another configuration, or other files.
    """
    path = config.out / "config.json"
    now = flat(as_dict(config))
    if path.is_file():
        defaults = flat(as_dict(type(config)(config.data, config.out)))
        written = flat(read_object(path))
        new = now.keys() & defaults.keys() - written.keys()
        before = written | {key: defaults[key] for key in new}
        different = sorted(key for key in now.keys() | before.keys() if now.get(key) != before.get(key))
        changed = [key for key in different if key in CHANGEABLE or key.partition(".")[0] in CHANGEABLE]
        if len(changed) < len(different):
            key = next(key for key in different if key not in changed)
            raise ValueError(
                f"{path}: another run is here, with {key}={quote(before.get(key))} where this one has"
                f" {quote(now.get(key))}; give another --out"
            )
        return {key: now.get(key) for key in changed}
    config.out.mkdir(parents=True, exist_ok=True)
    if not all(is_leftover(entry) for entry in config.out.iterdir()):
        raise ValueError(f"{config.out}: is not empty and has no config.json of a run; give another --out")
    remove_leftovers(config.out)
    write_json(path, as_dict(config))
    return {}


def pair_name(first: str, second: str) -> str:
    """Name of a pair of tasks in ``metrics.jsonl``, ``FIRST/SECOND``; ``/`` and ``%`` within a name are
    percent-encoded, so that names of pairs are distinct."""
    return "/".join(task.replace("%", "%25").replace("/", "%2F") for task in (first, second))


def record_start(directory: Path, record: Mapping[str, Any]) -> None:
    """Appends a line to ``starts.jsonl``, which has one per start of a run or of a comparison's seed."""
    lines = JsonLines(directory / "starts.jsonl")
    lines.append(record)
    lines.sync()
    lines.close()


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


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by their dotted names."""
    entries: dict[str, Any] = {}
    for key, value in values.items():
        entries.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return entries


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
