"""Evaluations of several models on a disk: ``evaluation.npz`` with the estimates, and ``evaluation.json`` with the
metrics, which is there if both are complete."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dlrm_mtl.files import read_json, write_json
from dlrm_mtl.metrics.estimates_file import read_estimates, write_estimates
from dlrm_mtl.metrics.evaluation import EvaluationMetrics
from dlrm_mtl.metrics.task_metrics import TaskEvaluation
from dlrm_mtl.records import convert


@dataclass(frozen=True)
class _Metrics:
    tasks: tuple[TaskEvaluation, ...]
    products: Mapping[str, TaskEvaluation] = field(default_factory=dict)


def write_evaluations(directory: Path, models: Mapping[str, EvaluationMetrics]) -> None:
    """Writes the evaluations of models by name. Influence is rounded to float32."""
    write_estimates(directory / "evaluation.npz", models)
    metrics = {name: asdict(_Metrics(tuple(model.tasks), model.products)) for name, model in models.items()}
    write_json(directory / "evaluation.json", metrics)


def remove_evaluations(directory: Path) -> None:
    """Removes what :func:`write_evaluations` wrote."""
    for suffix in (".json", ".npz"):
        (directory / f"evaluation{suffix}").unlink(missing_ok=True)


def read_evaluations(directory: Path) -> dict[str, EvaluationMetrics] | None:
    """Reads what :func:`write_evaluations` wrote; None if it is not there.

    Raises:
        ValueError: a file is damaged, or they hold different models.
    """
    file = directory / "evaluation.json"
    if not file.is_file():
        return None
    metrics: Mapping[str, _Metrics] = convert(Mapping[str, _Metrics], read_json(file), str(file))
    estimates = read_estimates(file.with_suffix(".npz"))
    if estimates.keys() != metrics.keys():
        raise ValueError(f"{file}: models {', '.join(metrics)}, expected those of the estimates beside it")
    return {
        name: EvaluationMetrics(
            of_model.estimates,
            of_model.segments,
            of_model.product_estimates,
            tasks=metrics[name].tasks,
            products=metrics[name].products,
        )
        for name, of_model in estimates.items()
    }
