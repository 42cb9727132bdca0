"""The result of an evaluation as JSON values, in the words of comparison.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from dlrm_mtl.inference.evaluation.options import EvaluateOptions
from dlrm_mtl.inference.stored_model import StoredModel
from dlrm_mtl.metrics.estimates import Estimates, over_rows
from dlrm_mtl.metrics.evaluation import Evaluation
from dlrm_mtl.metrics.task_metrics import TaskEvaluation, as_record
from dlrm_mtl.reporting.comparison import INDEPENDENT_ROWS, evaluated_rows, other_metrics
from dlrm_mtl.reporting.effects.arm import ArmSeeds
from dlrm_mtl.reporting.effects.gains import gains_of_seed
from dlrm_mtl.reporting.effects.over_seeds import effect_record
from dlrm_mtl.reporting.effects.recorded_gains import with_gains_over
from dlrm_mtl.reporting.normalized_loss import key_of, kind_of
from dlrm_mtl.schema import Schema


def describe_evaluations(
    options: EvaluateOptions,
    schema: Schema,
    notes: Sequence[str],
    models: Sequence[StoredModel],
    evaluations: Sequence[Evaluation],
) -> dict[str, Any]:
    """The metrics of each model by task, product and segment with their intervals over rows, and the gains of each
    further model over the first, positive where it is better.

    Args:
        schema: of the rows: the tasks that were evaluated, and the cluster if rows have one.
        notes: what the user is to know of the evaluation.
    """
    tasks = list(schema.task_names)
    names = _names(models)
    control = names[0]
    records = {name: _model_record(tasks, evaluation) for name, evaluation in zip(names, evaluations, strict=True)}
    gains = gains_of_seed(dict(zip(names, evaluations, strict=True)), control)
    for name in names[1:]:
        arm = with_gains_over(records[control], records[name])
        of_seed = ArmSeeds(tasks, [1 / len(tasks)] * len(tasks), [arm], [records[control]], [gains[name]])
        _add_gains(records[name], of_seed)
    first = records[control]
    return {
        "data": str(options.data),
        "data_set": schema.name,
        "split": options.split,
        "control": control,
        "tasks": tasks,
        "notes": list(notes),
        "clusters": schema.cluster or INDEPENDENT_ROWS,
        "evaluation": {task: evaluated_rows(record) for task, record in first["tasks"].items()},
        "products": {task: evaluated_rows(record) for task, record in first["products"].items()},
        "arms": {
            name: {"checkpoint": str(model.path.absolute()), "step": model.step, "arm": model.arm, **records[name]}
            for name, model in zip(names, models, strict=True)
        },
    }


def _names(models: Sequence[StoredModel]) -> list[str]:
    """Each model's arm; with its checkpoint if two have the same."""
    arms = [model.arm for model in models]
    return arms if len(set(arms)) == len(arms) else [f"{model.arm} in {model.path}" for model in models]


def _model_record(tasks: Sequence[str], evaluation: Evaluation) -> dict[str, Any]:
    """As seed-S.json has an arm, with the intervals of its metrics."""
    records = {
        task: _metrics(numbers, evaluation.estimates, column)
        for column, (task, numbers) in enumerate(zip(tasks, evaluation.tasks, strict=True))
    }
    return {
        "tasks": records,
        "products": {
            name: _metrics(numbers, evaluation.product_estimates, column)
            for column, (name, numbers) in enumerate(evaluation.products.items())
        },
        "segments": {
            segment: {
                value: {
                    "rows": part.rows,
                    "tasks": {
                        task: {**kind_of(records[task]), **_with_interval("ne", part.ne.of_task(column), records[task])}
                        for column, task in enumerate(tasks)
                    },
                }
                for value, part in values.items()
            }
            for segment, values in evaluation.segments.items()
        },
    }


def _metrics(numbers: TaskEvaluation, estimates: Mapping[str, Estimates], column: int) -> dict[str, Any]:
    """The numbers of one task or product, and ``METRIC_interval``."""
    record = as_record(numbers)
    for metric, of_all in estimates.items():
        if key_of(metric, record) in record:  # unlike log_calibration, whose interval is that of the calibration
            record |= _with_interval(metric, of_all.of_task(column), record)
    return record


def _with_interval(metric: str, estimates: Estimates, task: Mapping[str, Any]) -> dict[str, Any]:
    """The value and interval of one task, by the metric's name in its record; None if undefined."""
    [value] = estimates.values.tolist()
    interval, key = over_rows(estimates), key_of(metric, task)
    return {
        key: value if value == value else None,
        f"{key}_interval": {"low": interval.low, "high": interval.high} if interval else None,
    }


def _add_gains(record: dict[str, Any], arm: ArmSeeds) -> None:
    """Adds an arm's gains over the control: on average, by task, product and segment."""
    average = arm.effects().average
    record["average_ne_gain_percent"] = effect_record(average) if average else None
    for task, metrics in record["tasks"].items():
        metrics.update(arm.metric_gains(task, ("ne", *other_metrics(metrics))))
    for name, metrics in record["products"].items():
        metrics.update(arm.product_gains(name, ("ne", *other_metrics(metrics))))
    for segment, values in arm.segments().items():
        for value, gains in values.items():
            part = record["segments"][segment][value]
            part["average_ne_gain_percent"] = gains["average_ne_gain_percent"]
            for task, gain in gains["tasks"].items():
                part["tasks"][task].update(gain)
