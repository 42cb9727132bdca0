"""Options of the preparation of KuaiRand."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data_prep.columns.days import day_number
from data_prep.engine.options import refuse_changed
from data_prep.kuairand_log.context import SEGMENTS
from data_prep.kuairand_log.raw_tables import Impressions
from dlrm_mtl.model_schema import Task
from dlrm_mtl.quoting import quote

TASKS = {
    "feeds": tuple(Task(name, name) for name in ("click", "long_view", "like", "profile_enter", "comment")),
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
    """Directory of the data set; an existing data set is replaced."""
    tasks: Literal["feeds", "ads"]
    """feeds: click, long_view, like, profile_enter, comment. ads: ctr, cvr given click, conv_imp."""
    eval_from: datetime.date = datetime.date(2022, 5, 4)
    """First day of evaluation; training ends the day before."""
    train_from: datetime.date | None = None
    """First day of training; by default the log's first."""
    eval_to: datetime.date | None = None
    """Last day of evaluation; by default the log's last."""
    include_random: bool = False
    """Use the log of randomly exposed videos (log_random_*.csv) as well."""
    history_length: int = 50
    """Number of newest ids kept of each history of a user."""
    min_count: int = 1
    """A value needs at least so many occurrences in training rows for an id of its own; rarer ones share the id of
    unseen values, which is then trained."""
    segments: tuple[str, ...] = ()
    """Columns whose values divide the evaluation rows, beside their day and whether their user has training rows: hour,
    tab, duration_bucket, or categorical columns of the user or video table. The cluster is user_id."""
    encoding: Path | None = None
    """Data set whose encoding is used: its features, vocabularies, means and deviations, so that its models fit these
    rows. By default they are learnt."""

    def validate(self) -> None:
        """Raises ValueError where options are out of range or contradict each other."""
        if self.encoding is not None:
            refuse_changed(self, Options, "history_length", "min_count")
        for name in ("history_length", "min_count"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least 1")
        for name in self.segments:
            if name not in SEGMENTS:
                raise ValueError(f"segments: no column {quote(name)}; expected {', '.join(SEGMENTS)}")
            if self.segments.count(name) > 1:
                raise ValueError(f"segments: {name!r} is named twice")
        if self.train_from is not None and self.train_from >= self.eval_from:
            raise ValueError(f"train_from {self.train_from}: expected a day before eval_from {self.eval_from}")
        if self.eval_to is not None and self.eval_to < self.eval_from:
            raise ValueError(f"eval_to {self.eval_to}: expected no day before eval_from {self.eval_from}")

    @property
    def name(self) -> str:
        """Name of the data set."""
        return f"kuairand-{self.tasks}"

    def split(self, impressions: Impressions) -> dict[str, "np.ndarray"]:
        """Mask (B,) of the rows of each split."""
        boundary = day_number(self.eval_from)
        train = impressions.day < boundary
        evaluation = impressions.day >= boundary
        if self.train_from is not None:
            train &= impressions.day >= day_number(self.train_from)
        if self.eval_to is not None:
            evaluation &= impressions.day <= day_number(self.eval_to)
        return {"train": train, "eval": evaluation}
