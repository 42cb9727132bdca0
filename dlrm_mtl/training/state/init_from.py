"""Starting a run from a checkpoint, and comparing the meaning of ids and dense values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlrm_mtl.arms import SINGLE_TASK
from dlrm_mtl.meaning import DenseFingerprint, Meaning, TableFingerprint, find_difference, without_fingerprint
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.schema import Schema

START_ANEW = "start without --init-from, or {remedy}"
GO_ON_ELSEWHERE = "go on with the data set that the run began with, or give another --out"
"""Remedies if checkpoint and data set do not fit, for starting from another run and for continuing."""

SHOWN_NAMES = 5
"""Maximum number of tables and features in a message."""


def check_meaning(path: Path, facts: Mapping[str, Any], data: Path, schema: Schema, way_out: str) -> str | None:
    """Compares the meaning of ids and dense values in a checkpoint and in a data set.

    Args:
        path: of the checkpoint, for messages; ``facts`` belong to it.
        data: directory of the data set, for messages.
        way_out: the remedy if they do not fit; ``{remedy}`` in it is replaced by how to prepare data that fit.

    Returns:
        a line that says what cannot be compared; None if everything can.

    Raises:
        ValueError: the meanings differ; the message names table or feature, both fingerprints and remedies.
    """
    now = schema.meaning
    before = Meaning.from_json(facts["meaning"], f"{path}: meaning") if "meaning" in facts else _sizes_alone(facts, now)
    difference = find_difference(before, now)
    if difference is not None:
        raise ValueError(
            f"{path}: {difference.what} was {difference.before}, in {data} it is {difference.now};"
            f" {way_out.format(remedy=difference.remedy)}"
        )
    silent = [
        f"{place} has no fingerprint of {_some(names)}"
        for place, meaning in ((path, before), (data, now))
        if (names := without_fingerprint(meaning))
    ]
    if not silent:
        return None
    return (
        f"{path}: cannot tell whether ids and dense values stand for the same in {data}: {'; '.join(silent)}; what is"
        " prepared and trained anew has them"
    )


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


def check_init_from(
    path: Path, facts: Mapping[str, Any], data: Path, schema: Schema, arms: Sequence[str]
) -> str | None:
    """Checks by the manifest that arms can start from the checkpoint of another run.

    Returns:
        see :func:`check_meaning`.

    Raises:
        ValueError: they cannot.
    """
    for arm in arms:
        source_arm(arm, path, facts)
    return check_meaning(path, facts, data, schema, START_ANEW)


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
