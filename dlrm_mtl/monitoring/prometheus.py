"""A run's status as Prometheus text, for node exporter's textfile collector."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

STATUSES = ("running", "finished", "interrupted", "failed")

_HELP = {
    "status": "1 for the status of the run, 0 for the others",
    "updated_timestamp_seconds": "When this file was written",
    "step": "Steps of the seed that every arm has trained",
    "steps": "Steps at which the seed ends",
    "samples_per_second": "Training rows of all arms per second of wall time",
    "checkpoint_step": "Step of the newest checkpoint",
    "checkpoint_timestamp_seconds": "When it was complete",
    "checkpoint_duration_seconds": "Seconds from its begin until then",
    "qps": "Global training rows per second, over the timed steps of the last window",
    "window_ne": "NE of a task over the last training window",
    "window_nmse": "NMSE of a regression task over the last training window",
    "evaluation_ne": "NE of a task over the evaluation rows",
    "evaluation_nmse": "NMSE of a regression task over the evaluation rows",
    "logger_failures": "Calls of the logger that failed",
    "mirror_failures": "Copies to the mirror that failed",
}

Labels = Mapping[str, str]


def as_prometheus(status: Mapping[str, Any], directory: str) -> str:
    """The text.

    Args:
        status: as in status.json.
        directory: of the run, the label ``run`` of every sample.
    """
    lines = []
    samples = list(_samples(status, {"run": directory}))
    for name, text in _HELP.items():
        values = [(labels, value) for metric, labels, value in samples if metric == name and value is not None]
        if values:
            lines += [f"# HELP dlrm_mtl_{name} {text}", f"# TYPE dlrm_mtl_{name} gauge"]
            lines += [f"dlrm_mtl_{name}{_braces(labels)} {float(value)!r}" for labels, value in values]
    return "".join(f"{line}\n" for line in lines)


def _samples(status: Mapping[str, Any], run: Labels) -> Iterator[tuple[str, Labels, float | None]]:
    for each in STATUSES:
        yield "status", {**run, "status": each}, each == status["status"]
    yield "updated_timestamp_seconds", run, _seconds(status["time"])
    for name in ("logger_failures", "mirror_failures"):
        yield name, run, status.get(name)
    seed = {**run, "seed": str(status.get("seed", ""))}
    for name in ("step", "steps", "samples_per_second"):
        yield name, seed, status.get(name)
    if checkpoint := status.get("checkpoint"):
        yield "checkpoint_step", seed, checkpoint["step"]
        yield "checkpoint_timestamp_seconds", seed, _seconds(checkpoint["time"])
        yield "checkpoint_duration_seconds", seed, checkpoint["seconds"]
    for arm, values in status.get("arms", {}).items():
        yield "qps", {**seed, "arm": arm}, values.get("qps")
        for rows in ("window", "evaluation"):
            for task, losses in values.get(rows, {}).items():
                for loss, value in losses.items():
                    yield f"{rows}_{loss}", {**seed, "arm": arm, "task": task}, value


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _braces(labels: Labels) -> str:
    escape = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return "{" + ",".join(f'{name}="{value.translate(escape)}"' for name, value in labels.items()) + "}"
