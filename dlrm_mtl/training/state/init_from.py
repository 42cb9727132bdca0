"""Starting a run from a checkpoint, and comparing the meaning of ids and dense values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dlrm_mtl.arms import SINGLE_TASK
from dlrm_mtl.data.new_ids import Ids, read_new_ids
from dlrm_mtl.location import Location
from dlrm_mtl.meaning import DenseFingerprint, Meaning, TableFingerprint, find_difference, without_fingerprint
from dlrm_mtl.model_schema import ModelSchema, Task
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.records import build
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.schema import STREAM, Schema

START_ANEW = "start without --init-from, or {remedy}"
GO_ON_ELSEWHERE = "go on with the data set that the run began with, or give another --out"
BEGIN_ANOTHER = "{remedy}, or begin another run with it"
"""Remedies if checkpoint and data set do not fit: for starting from another run, for continuing on the same data, and
on those of the next period."""

SHOWN_NAMES = 5
"""Maximum number of tables and features in a message."""


@dataclass(frozen=True)
class Start:
    """The models of an earlier run that training starts from."""

    checkpoint: Path
    goes_on: bool = False
    """Whether training goes on as if it had not ended: steps are counted on, and schedules and random numbers go on.
    Otherwise they begin anew."""
    skipped: tuple[tuple[Location, Schema], ...] = ()
    """Data sets, and their directories, that lie between that of the checkpoint and the one to train on, in order: each
    continues the one before."""

    @classmethod
    def of(cls, config: RunConfig) -> "Start | None":
        """That of ``init_from``."""
        return None if config.init_from is None else cls(config.init_from)


@dataclass(frozen=True)
class DataFit:
    """A data set that fits the model of a checkpoint."""

    note: str | None
    """A line that says what cannot be compared; None if everything can."""
    new_ids: Mapping[str, Ids]
    """By table, the ids (N,) that stand for other values than in the model's training, or are not in its tables;
    ascending."""


def check_meaning(path: Path, facts: Mapping[str, Any], data: Location, schema: Schema, way_out: str) -> str | None:
    """Checks that ids and dense values mean the same in a checkpoint and in a data set.

    Returns, raises: as :func:`fit_data`, where no data set continues another.
    """
    return fit_data(path, facts, [(data, replace(schema, continues=None))], way_out).note


def fit_data(
    path: Path, facts: Mapping[str, Any], data_sets: Sequence[tuple[Location, Schema]], way_out: str
) -> DataFit:
    """Compares the meaning of ids and dense values in a checkpoint and in a data set that may continue the one of the
    checkpoint.

    Args:
        path: of the checkpoint, for messages; ``facts`` belong to it.
        data_sets: with their directories; the last is the one to compare, each continues the one before it, and the
            first that of the checkpoint.
        way_out: the remedy if they do not fit; ``{remedy}`` in it is replaced by how to prepare data that fit.

    Raises:
        ValueError: the meanings differ; the message names table or feature, both fingerprints and remedies. A file with
            ids that begin anew is missing or damaged.
    """
    data, schema = data_sets[-1]
    if "meaning" in facts:
        first = Meaning.from_json(facts["meaning"], f"{path}: meaning")
    else:
        first = _sizes_alone(facts, schema.meaning)
    before, new_ids = first, dict[str, Ids]()
    for data, schema in data_sets:
        now = schema.meaning
        continued = schema.continues.tables if schema.continues else {} if STREAM in schema.splits else None
        difference = find_difference(before, now, continued)
        if difference is not None:
            raise ValueError(
                f"{path}: {difference.what} was {difference.before}, in {data} it is {difference.now};"
                f" {way_out.format(remedy=difference.remedy)}"
            )
        for table, ids in read_new_ids(data, schema).items():
            if before.tables[table] != now.tables[table]:
                new_ids[table] = np.union1d(new_ids.get(table, ids), ids)
        before = now
    silent = [
        f"{place} has no fingerprint of {_some(names)}"
        for place, meaning in ((path, first), (data, schema.meaning))
        if (names := without_fingerprint(meaning))
    ]
    if not silent:
        return DataFit(None, new_ids)
    note = (
        f"{path}: cannot tell whether ids and dense values stand for the same in {data}: {'; '.join(silent)}; what is"
        " prepared and trained anew has them"
    )
    return DataFit(note, new_ids)


def keep_label_units(path: Path, facts: Mapping[str, Any], data: Location, schema: Schema) -> Schema:
    """The schema of a data set, with the means and deviations of labels that a checkpoint's heads have learnt.

    Raises:
        ValueError: a task of the same name has labels of another kind or unit.
    """
    tasks = [Task(name, "") for name in facts["tasks"]]  # binary, as all are in a checkpoint of an earlier version
    if "trained_on" in facts:
        tasks = list(build(ModelSchema, facts["trained_on"], f"{path}: trained_on").tasks)
    before = {task.name: task for task in tasks}
    kept = []
    for task in schema.tasks:
        if old := before.get(task.name):
            task.check_same_labels(old, str(data), str(path))
            task = replace(task, mean=old.mean, deviation=old.deviation)
        kept.append(task)
    return replace(schema, tasks=tuple(kept))


def source_arm(arm: str, path: Path, facts: Mapping[str, Any]) -> str:
    """The arm of a checkpoint that an arm starts from: the one of the same name, otherwise the first that is one model
    of all tasks.

    Raises:
        ValueError: there is none.
    """
    if arm in facts["arms"]:
        return arm
    for source in facts["arms"]:
        if parse_recipe(source).method != SINGLE_TASK:
            return str(source)
    raise ValueError(
        f"{path}: holds a model for each task ({SINGLE_TASK}), and arm {arm!r} starts from one of all tasks; give a"
        " checkpoint of another arm"
    )


def fit_start(start: Start, facts: Mapping[str, Any], data: Location, schema: Schema, arms: Sequence[str]) -> DataFit:
    """Checks by the manifest of a checkpoint that arms can start from it with a data set.

    Raises:
        ValueError: they cannot.
    """
    for arm in arms:
        if source_arm(arm, start.checkpoint, facts) != arm and start.goes_on:
            raise ValueError(f"{start.checkpoint}: has no arm {arm!r}, expected one of {', '.join(facts['arms'])}")
    way_out = BEGIN_ANOTHER if start.goes_on else START_ANEW
    return fit_data(start.checkpoint, facts, [*start.skipped, (data, schema)], way_out)


def _sizes_alone(facts: Mapping[str, Any], now: Meaning) -> Meaning:
    """Fingerprints from a checkpoint of an earlier version, which has only the tables' sizes."""
    rows = {
        table["table"]: max(shard["offset"][0] + shard["size"][0] for shard in table["shards"])
        for table in facts["plan"]
    }
    return Meaning(
        now.features,
        {table: TableFingerprint("unknown", rows[table]) for table in now.tables if table in rows},
        {name: DenseFingerprint("unknown") for name in now.dense},
    )


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
