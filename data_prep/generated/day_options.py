"""Options of a generated log of days."""

import datetime
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import tyro

from data_prep.columns.days import day_number
from data_prep.columns.labels import LabelColumn, RegressionLabel
from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout
from data_prep.columns.periods import numbered
from data_prep.engine.options import IdOptions
from data_prep.generated.change import Change
from data_prep.generated.columns import tasks_of
from data_prep.generated.ground_truth import WATCH, Distribution
from dlrm_mtl.continuation import Period
from dlrm_mtl.quoting import quote
from dlrm_mtl.task_times import TaskTimes

NAME = "synthetic"
"""Name of the data sets."""


@dataclass(frozen=True)
class DayOptions:
    """Options of a log of days."""

    days: int = 0
    """Days of a log: OUT/2024-01-01, ... are data sets of --rows rows each, for dlrm_mtl.stream. Days that are there
    already are kept, so that a larger number adds days. 0: one data set to train and evaluate on."""
    first_day: datetime.date = datetime.date(2024, 1, 1)
    """Date of the first day."""
    task_begins: tuple[str, ...] = ()
    """First days of tasks that do not exist from the beginning: like=2024-01-10."""
    task_ends: tuple[str, ...] = ()
    """Last days of tasks that do not exist to the end: like=2024-01-20."""
    ids: Literal["vocabulary", "hash"] = "vocabulary"
    """vocabulary: every day adds its new values, up to max_ids; then new values take the ids of those not seen for the
    longest time. hash: tables of max_ids."""
    min_count: int = 1
    """vocabulary: a value needs at least so many occurrences for an id of its own."""
    max_ids: int = 0
    """Maximum number of each table's ids, reserved ones included; 0: no maximum."""
    table_max_ids: dict[str, int] = field(default_factory=dict)
    """max_ids of single tables, by name: id_1 2000 list_0 1000."""
    change: Annotated[Change, tyro.conf.arg(name="")] = field(default_factory=Change)

    def validate(self, distribution: Distribution) -> None:
        """Raises ValueError where an option is out of its range, or given without days."""
        if self.days < 0:
            raise ValueError(f"days {self.days}: expected at least 0")
        if not self.days:
            usual = DayOptions().as_record()
            for name, value in self.as_record().items():
                if value != usual[name]:
                    raise ValueError(f"{name} {quote(value)}: is an option of a log of days; give --days")
            return
        self.change.validate(distribution)
        self.id_options.validate(layout_of(distribution))
        if unknown := sorted(self.task_times.tasks - {*distribution.task_names}):
            expected = ", ".join(distribution.task_names)
            raise ValueError(f"task_begins, task_ends: no task {quote(unknown[0])}; expected some of {expected}")
        for number in range(self.days):
            if not any(self.task_times.has(task, self.period(number)) for task in distribution.task_names):
                raise ValueError(f"task_begins, task_ends: no task on {self.date(number)}, expected one on every day")

    def date(self, number: int) -> datetime.date:
        """The date of a day, counted from 0."""
        return self.first_day + datetime.timedelta(days=number)

    def period(self, number: int) -> Period:
        """The times of a day."""
        return numbered(day_number(self.date(number)), "day")

    @property
    def task_times(self) -> TaskTimes:
        return TaskTimes.of(self.task_begins, self.task_ends)

    @property
    def id_options(self) -> IdOptions:
        return IdOptions(self.ids, self.min_count, self.max_ids, self.table_max_ids)

    def as_record(self) -> dict[str, Any]:
        """Entries of the schema's source, in the types of JSON: what all days of a log have in common."""
        names = ("task_begins", "task_ends", "ids", "min_count", "max_ids", "table_max_ids")
        record = {"first_day": str(self.first_day), **{name: getattr(self, name) for name in names}}
        return {name: as_json(value) for name, value in {**record, **asdict(self.change)}.items()}


def layout_of(distribution: Distribution) -> Layout:
    """The columns of a generated log."""
    one_hot = len(distribution.cardinalities)
    return Layout(
        NAME,
        tuple(
            CategoricalColumn(name, "integer", multi_hot=number >= one_hot)
            for number, name in enumerate(distribution.feature_names)
        ),
        tuple(LabelColumn(name) for name in distribution.task_names if name != WATCH),
        tuple(tasks_of(distribution)),
        tuple(DenseColumn(f"dense_{i}", mark_missing=False) for i in range(distribution.dense)),
        (RegressionLabel(WATCH),) if distribution.watch_noise else (),
    )


def as_json(value: Any) -> Any:
    """Lists, as JSON reads them back."""
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
