"""The description of a data set of a period as text tables."""

from collections.abc import Sequence

from data_prep.statistics.column_statistics import HEAD_IDS
from data_prep.statistics.period_description import (
    DEVIATION,
    MEAN,
    CategoricalOfPeriod,
    DenseOfPeriod,
    PeriodDescription,
    RegressionOfPeriod,
    TableOfPeriod,
    TaskOfPeriod,
)
from data_prep.statistics.regression_labels import QUANTILES
from data_prep.statistics.text_tables import Column, joined, marks, number, percent, section


def render_period(description: PeriodDescription) -> str:
    """The description as text tables."""
    what = [f"{description.name}: {description.rows:,} rows"]
    what += [f"period {description.period}"] if description.period is not None else []
    what += [f"continues {description.continues}"] if description.continues is not None else []
    return joined(
        [", ".join(what)],
        section("Tasks", _task_columns, description.tasks),
        section("Regression tasks", _regression_columns, description.regressions),
        section("Tables", _table_columns, description.tables),
        section("Categorical features", _categorical_columns, description.categorical),
        section("Dense features", _dense_columns, description.dense),
        [
            "new: ids that the data set before has not; recycled: ids that it has for other values.",
            "not before: share of a feature's ids that are unseen for the data set before and for its models.",
            "kept scale: mean and deviation of the values that are not missing; 0 and 1 in the first data set.",
            f"A feature or regression label drifts where its mean is over {MEAN:g} from 0, or its deviation over"
            f" {DEVIATION:g} from 1.",
        ],
    )


def _task_columns(tasks: Sequence[TaskOfPeriod]) -> list[Column]:
    return [
        Column("", "task", [task.name for task in tasks], left=True),
        Column("", "label", [task.label for task in tasks], left=True),
        Column("", "given", [task.given or "-" for task in tasks], left=True),
        Column("", "defined rows", [f"{task.labels.rows:,}" for task in tasks]),
        Column("", "positives", [f"{task.labels.positives:,}" for task in tasks]),
        Column("", "base rate", [number(task.labels.base_rate, ".5f") for task in tasks]),
    ]


def _regression_columns(tasks: Sequence[RegressionOfPeriod]) -> list[Column]:
    return [
        Column("", "task", [task.name for task in tasks], left=True),
        Column("", "label", [task.label for task in tasks], left=True),
        Column("", "given", [task.given or "-" for task in tasks], left=True),
        Column("", "defined rows", [f"{task.numbers.rows:,}" for task in tasks]),
        *(Column("", name, [number(task.numbers.quantiles[name], ".3g") for task in tasks]) for name in QUANTILES),
        Column("", "max", [number(task.numbers.max, ".3g") for task in tasks]),
        Column("kept scale", "mean", [number(task.mean, "+.3f") for task in tasks]),
        Column("kept scale", "deviation", [number(task.deviation, ".3f") for task in tasks]),
        marks(task.drifts for task in tasks),
    ]


def _table_columns(tables: Sequence[TableOfPeriod]) -> list[Column]:
    return [
        Column("", "table", [of_table.name for of_table in tables], left=True),
        Column("", "ids", [f"{of_table.ids:,}" for of_table in tables]),
        Column("", "at most", [number(of_table.capacity, ",") for of_table in tables]),
        Column("", "new", [f"{of_table.appended:,}" for of_table in tables]),
        Column("", "recycled", [f"{of_table.reset:,}" for of_table in tables]),
        Column("", "waiting", [number(of_table.waiting, ",") for of_table in tables]),
    ]


def _categorical_columns(features: Sequence[CategoricalOfPeriod]) -> list[Column]:
    return [
        Column("", "feature", [feature.name for feature in features], left=True),
        Column("", "table", [feature.table for feature in features], left=True),
        Column("", "distinct ids", [f"{feature.ids.distinct:,}" for feature in features]),
        Column("", "mean length", [f"{feature.ids.mean_length:.3f}" for feature in features]),
        Column("", "missing", [percent(feature.ids.missing_share) for feature in features]),
        Column("", "unseen", [percent(feature.ids.unseen_share) for feature in features]),
        Column("", "not before", [percent(feature.unseen_before) for feature in features]),
        Column("", f"top {HEAD_IDS}", [percent(feature.ids.head_share) for feature in features]),
    ]


def _dense_columns(features: Sequence[DenseOfPeriod]) -> list[Column]:
    return [
        Column("", "feature", [feature.name for feature in features], left=True),
        Column("", "min", [number(feature.values.min, ".3g") for feature in features]),
        Column("", "max", [number(feature.values.max, ".3g") for feature in features]),
        Column("", "missing", [percent(feature.missing_share) for feature in features]),
        Column("kept scale", "mean", [number(feature.mean, "+.3f") for feature in features]),
        Column("kept scale", "deviation", [number(feature.deviation, ".3f") for feature in features]),
        marks(feature.drifts for feature in features),
    ]
