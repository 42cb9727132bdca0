"""Made-up run directories of comparisons, for tests of the report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlrm_mtl.file_names import file_names
from dlrm_mtl.files import write_json
from dlrm_mtl.reporting.comparison import compare_seeds

TASKS = ("click", "buy")
CONFIG = {"data": "runs/data", "batch_size": 64, "timeout_s": 600, "model": {"interaction": "dot"}}
ENVIRONMENT: dict[str, Any] = {
    "time": "2026-01-02T03:04:05+00:00",
    "command": ["compare.py", "--data", "runs/data", "--arms", "mean", "it's"],
    "python": "3.11.7",
    "versions": {"torch": "2.13.0"},
    "platform": "Linux",
    "processor": "a processor",
    "cpus": 2,
    "world_size": 1,
    "device": "cpu",
}


def summarized(
    seed: int, nes: Mapping[str, Sequence[float | None]], tasks: Sequence[str] = TASKS, speed: float = 1000.0
) -> dict[str, Any]:
    """A seed's summary from the NE of each arm and task; the first arm is the control. Intervals of gains are +-0.1."""
    control = next(iter(nes.values()))
    arms = {}
    for index, (arm, values) in enumerate(nes.items()):
        gains = [None if a is None or b is None else 100 * (a - b) for a, b in zip(control, values, strict=True)]
        known = [gain for gain in gains if gain is not None]
        arms[arm] = {
            "qps": [speed * max(0.1, 1 - 0.1 * index), 2 * speed * max(0.1, 1 - 0.1 * index)],
            "skipped_steps": 0,
            "rows_lost": 0,
            "average_ne_gain_percent": interval(float(np.mean(known))) if len(known) == len(gains) else None,
            "tasks": {
                task: {"ne": ne, "auc": 0.7, "calibration": 1.0, "ne_gain_percent": interval(gain)}
                for task, ne, gain in zip(tasks, values, gains, strict=True)
            },
        }
    return {"seed": seed, "arms": arms}


def interval(gain: float | None, half: float = 0.1) -> dict[str, float] | None:
    return None if gain is None else {"mean": gain, "low": gain - half, "high": gain + half}


def write_run(
    directory: Path,
    seeds: Sequence[Mapping[str, Any]],
    tasks: Sequence[str] = TASKS,
    config: Mapping[str, Any] | None = None,
    windows: int = 0,
    shards: Sequence[Mapping[str, Any]] | None = None,
    planned: Sequence[int] | None = None,
    task_weights: Mapping[str, float] | None = None,
    began: str = ENVIRONMENT["time"],
) -> Path:
    """Writes the files of ``dlrm_mtl.compare``, with metrics.jsonl if ``windows`` is not 0."""
    directory.mkdir(parents=True)
    arms = list(seeds[0]["arms"])
    own = {"out": str(directory), "arms": arms, "seeds": len(seeds), "first_seed": seeds[0]["seed"]}
    write_json(directory / "config.json", {**CONFIG, **own, **(config or {})})
    write_json(directory / "environment.json", {**ENVIRONMENT, "time": began})
    comparison = compare_seeds(tasks, seeds, {}, task_weights, planned)
    write_json(directory / "comparison.json", {"data_set": "shop", **comparison})
    if shards is not None:
        write_json(directory / "data.json", {"shards": shards, "bad": []})
    for seed in seeds:
        write_json(directory / f"seed-{seed['seed']}.json", seed)
        for name in file_names(arms).values() if windows else []:
            folder = directory / f"seed-{seed['seed']}" / name
            folder.mkdir(parents=True)
            lines = [window(10 * (number + 1), tasks, seed["seed"]) for number in range(windows)]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


def window(step: int, tasks: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """A training line of metrics.jsonl."""
    values = {task: 0.1 * (index + 1) + 0.001 * step + 0.01 * seed for index, task in enumerate(tasks)}
    return {
        "step": step,
        "kind": "train",
        "qps": 1000.0 + step + seed,
        "task_weights": values,
        "gradient_norms": values,
        "weighted_gradient_norms": {**values, tasks[0]: 0.0},
        "cosines": {f"{a}/{b}": None for i, a in enumerate(tasks) for b in tasks[i + 1 :]}
        if step == 10
        else {f"{a}/{b}": 0.5 for i, a in enumerate(tasks) for b in tasks[i + 1 :]},
        "pareto_gap": 0.01 * step,
        "skipped_steps": 0,
    }
