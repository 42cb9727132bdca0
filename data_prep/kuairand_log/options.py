"""Options of the preparation of KuaiRand."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from data_prep.columns.days import day_number
from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import Layout
from data_prep.encoding.extending import Growth, Previous
from data_prep.engine.options import IdOptions, refuse_changed
from data_prep.kuairand_log.context import SEGMENTS
from data_prep.kuairand_log.counts import LABEL_SOURCES, PLAY, labels_of, sources_of
from data_prep.kuairand_log.learning import categorical_features
from data_prep.kuairand_log.raw_tables import Impressions
from dlrm_mtl.location import Location
from dlrm_mtl.model_schema import Task
from dlrm_mtl.quoting import quote

FEEDS = tuple(Task(name, name) for name in ("click", "long_view", "like", "profile_enter", "comment"))

TASKS = {
    "feeds": FEEDS,
    "feeds_and_play": (*FEEDS, Task(PLAY.name, PLAY.name, kind="regression", unit="ln(1 + seconds)")),
    "ads": (Task("ctr", "click"), Task("cvr", "long_view", given="click"), Task("conv_imp", "click_long_view")),
}
"""Task sets."""


@dataclass(frozen=True)
class Options:
    """Prepares KuaiRand: joins log, users and videos, splits by date, assigns ids from training rows."""

    raw: Path
    """Directory of the raw files: log_standard_*.csv, user_features_*.csv, video_features_basic_*.csv, each plain,
    .gz or .zst, and user_history_to_*.parquet where there is one."""
    out: Path
    """Directory of the data set; an existing one is replaced. With --every day, OUT holds one for each
    day, such as OUT/2022-04-25."""
    tasks: Literal["feeds", "feeds_and_play", "ads"]
    """feeds: click, long_view, like, profile_enter, comment. feeds_and_play: these, and the logarithm of the watch time
    as a regression. ads: ctr, cvr given click, conv_imp."""
    eval_from: datetime.date = datetime.date(2022, 5, 4)
    """First day of evaluation; training ends the day before. Unused with --every day."""
    train_from: datetime.date | None = None
    """First day of training; by default the log's first, or the one after the data set that is extended."""
    eval_to: datetime.date | None = None
    """Last day of evaluation; by default the log's last."""
    every: Literal["day"] | None = None
    """day: each day from train_from to eval_to is a data set of the split stream, for dlrm_mtl.stream. The first learns
    ids, means and deviations; each next one extends the ids of the one before."""
    extend: Location | None = None
    """Data set of a day that the first of these days extends; with --every day. Minimum count and maximum numbers of
    ids stay as they are unless they are given."""
    include_random: bool = False
    """Use the log of randomly exposed videos (log_random_*.csv) as well."""
    history_length: int = 50
    """Number of newest ids kept of each history of a user."""
    min_count: int | None = None
    """A value needs at least so many occurrences in training rows for an id of its own, by default 1; rarer ones share
    the id of unseen values, which is then trained. With --every day, occurrences since a value was first seen count."""
    max_ids: int = 0
    """Maximum number of each table's ids, reserved ones included; 0: no maximum. The most frequent values are kept.
    With --every day, a full table gives the ids of values that were not seen for the longest time to new ones."""
    table_max_ids: dict[str, int] = field(default_factory=dict)
    """max_ids of single tables, by name: user_id 20000 video_id 5000."""
    segments: tuple[str, ...] = ()
    """Columns whose values divide the evaluation rows, beside their day and whether their user has training rows: hour,
    tab, duration_bucket, or categorical columns of the user or video table. The cluster is user_id."""
    encoding: Location | None = None
    """Data set whose encoding is used: its features, vocabularies, means and deviations, so that its models fit these
    rows. By default they are learnt."""

    def validate(self) -> None:
        """Raises ValueError where options are out of range or contradict each other."""
        usual = Options(self.raw, self.out, self.tasks)
        if self.encoding is not None:
            refuse_changed(self, usual, "history_length", "min_count", "max_ids", "table_max_ids")
        if self.extend is not None:
            refuse_changed(self, usual, "history_length", by="extend")
        if self.history_length < 1:
            raise ValueError(f"history_length {self.history_length}: expected at least 1")
        self.ids.validate(layout_of(self.tasks))
        for name in self.segments:
            if name not in SEGMENTS:
                raise ValueError(f"segments: no column {quote(name)}; expected {', '.join(SEGMENTS)}")
            if self.segments.count(name) > 1:
                raise ValueError(f"segments: {name!r} is named twice")
        if self.every is None:
            self._check_splits()
        else:
            self._check_days(usual)

    def _check_splits(self) -> None:
        if self.extend is not None:
            raise ValueError(f"extend {self.extend}: expected with --every day")
        if self.train_from is not None and self.train_from >= self.eval_from:
            raise ValueError(f"train_from {self.train_from}: expected a day before eval_from {self.eval_from}")
        if self.eval_to is not None and self.eval_to < self.eval_from:
            raise ValueError(f"eval_to {self.eval_to}: expected no day before eval_from {self.eval_from}")

    def _check_days(self, usual: "Options") -> None:
        if self.eval_from != usual.eval_from:
            raise ValueError(f"eval_from {self.eval_from}: every day is evaluated, then trained on; leave it out")
        if self.encoding is not None:
            raise ValueError(f"encoding {self.encoding}: contradicts every day; --extend goes on with an encoding")
        if self.train_from is not None and self.eval_to is not None and self.eval_to < self.train_from:
            raise ValueError(f"eval_to {self.eval_to}: expected no day before train_from {self.train_from}")

    @property
    def log_labels(self) -> dict[str, str]:
        """The columns of the log that the labels come from, and how they are read: binary or number."""
        return sources_of(TASKS[self.tasks])

    @property
    def label_formulas(self) -> dict[str, str]:
        """What the regression labels are, see :attr:`Layout.label_formulas`."""
        return layout_of(self.tasks).label_formulas

    @property
    def name(self) -> str:
        """Name of the data set."""
        return f"kuairand-{self.tasks}"

    def origin(self, files: Sequence[str]) -> dict[str, object]:
        """Entries of the schema's source: where the rows come from."""
        return {
            "generator": "data_prep.kuairand",
            "licence": "CC BY-SA 4.0, as that of KuaiRand",
            "files": list(files),
            "task_set": self.tasks,
            **({"label_formulas": self.label_formulas} if self.label_formulas else {}),
        }

    @property
    def ids(self) -> IdOptions:
        """How values become ids."""
        return IdOptions(min_count=self.min_count, max_ids=self.max_ids, table_max_ids=self.table_max_ids)

    @property
    def growth(self) -> Growth:
        """Which values have ids."""
        return _growth(self.ids, layout_of(self.tasks))

    def growth_after(self, previous: Previous) -> Growth:
        """The same for a data set that extends another one. Raises ValueError where a maximum is below the ids that
        there are."""
        layout = layout_of(self.tasks)
        return _growth(self.ids.going_on(previous, layout), layout)

    def of_days(self, impressions: Impressions) -> "np.ndarray":
        """Mask (B,) of the rows from ``train_from`` to ``eval_to``."""
        used = np.ones(len(impressions), bool)
        if self.train_from is not None:
            used &= impressions.day >= day_number(self.train_from)
        if self.eval_to is not None:
            used &= impressions.day <= day_number(self.eval_to)
        return used

    def split(self, impressions: Impressions) -> dict[str, "np.ndarray"]:
        """Mask (B,) of the rows of each split."""
        used, boundary = self.of_days(impressions), day_number(self.eval_from)
        return {"train": used & (impressions.day < boundary), "eval": used & (impressions.day >= boundary)}


def _growth(ids: IdOptions, layout: Layout) -> Growth:
    return Growth(ids.least_count, {table: ids.cap(layout, table) for table in layout.tables})


def layout_of(tasks: str) -> Layout:
    """The columns of the log, for a task set; without histories, which have no table of their own."""
    binary = [label for label in labels_of(TASKS[tasks]) if label in LABEL_SOURCES]
    numbers = (PLAY,) if PLAY.name in labels_of(TASKS[tasks]) else ()
    features = tuple(categorical_features(0))
    return Layout("kuairand", features, tuple(map(LabelColumn, binary)), TASKS[tasks], regression_labels=numbers)
