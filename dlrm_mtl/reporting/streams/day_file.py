"""day.json in the run directory of a day: what is known of the day beside the results of its comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dlrm_mtl.continuation import Period
from dlrm_mtl.files import read_json, write_json
from dlrm_mtl.model_schema import CategoricalFeature
from dlrm_mtl.records import MayHoldMore, build
from dlrm_mtl.reporting.runs.run_records import check_record
from dlrm_mtl.schema import STREAM, Schema

DAY_FILE = "day.json"


@dataclass(frozen=True)
class TableFacts(MayHoldMore):
    """An embedding table on a day."""

    ids: int
    """Its rows."""
    new: int
    """Ids that the day before did not have."""
    recycled: int
    """Ids that had another value the day before."""
    capacity: int | None = None
    """Maximum number of ids; None: there is none, or it is not known."""
    waiting: int | None = None
    """Values that wait for an id; None if not known."""


@dataclass(frozen=True)
class Seconds(MayHoldMore):
    """What a day took, over all arms and seeds, without starts and checkpoints."""

    evaluation: float
    training: float


@dataclass(frozen=True, kw_only=True)
class DayFacts(MayHoldMore):
    """A day that was trained on, or skipped."""

    data_set: str
    period: Period | None = None
    rows: int
    tasks: tuple[str, ...]
    evaluated: tuple[str, ...] = ()
    """Tasks that were evaluated before the day was trained on."""
    skipped: str | None = None
    """Why the day was skipped; None: it was trained on."""
    seconds: Seconds | None = None
    """None if the day was skipped, or interrupted."""
    tables: Mapping[str, TableFacts] = field(default_factory=dict)
    unseen_before: Mapping[str, float] = field(default_factory=dict)
    """By feature, the share of its ids that were read as unseen in the evaluation."""


def write_day(
    directory: Path,
    schema: Schema,
    *,
    evaluated: Sequence[str] = (),
    skipped: str | None = None,
    seconds: Seconds | None = None,
) -> None:
    """Writes ``day.json``, which says that a day is over.

    Args:
        directory: run directory of the day.
        schema: of the day's data set, with the tasks that exist on the day.
    """
    facts = DayFacts(
        data_set=schema.name,
        period=schema.period,
        rows=schema.rows(STREAM),
        tasks=schema.task_names,
        evaluated=tuple(evaluated),
        skipped=skipped,
        seconds=seconds,
        tables={table: _table(schema, table, users) for table, users in schema.tables.items()},
        unseen_before=schema.source.get("unseen_before", {}),
    )
    write_json(directory / DAY_FILE, asdict(facts))


def read_day_file(path: Path) -> dict[str, Any]:
    """Reads a day.json.

    Raises:
        ValueError: it is missing or malformed; the message names it.
    """
    value = read_json(path)
    check_record(value, DayFacts, path)
    return asdict(build(DayFacts, value, ""))


def _table(schema: Schema, table: str, users: Sequence[CategoricalFeature]) -> TableFacts:
    ids, continues = users[0].cardinality, schema.continues
    before = continues.tables[table].size if continues and table in continues.tables else 0
    recycled = continues.reset[table].rows if continues and table in continues.reset else 0
    chain = schema.source.get("chain", {})
    capacity, waiting = (chain.get(key, {}).get(table) for key in ("capacities", "waiting"))
    return TableFacts(ids, ids - before, recycled, capacity or None, waiting)
