"""The way from a raw log to a data set, stage by stage."""

import json
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.assembly import assemble
from data_prep.assignment import keep
from data_prep.counting import merge_runs
from data_prep.layout import Layout
from data_prep.options import IdOptions, Split, SplitOptions, WorkOptions
from data_prep.passes import CountPass, EncodePass
from data_prep.preparation import Groundwork, Part, Preparation, index_part, key_of, parts_of, records, run_part
from data_prep.running import Progress, Workers, run
from data_prep.shards import sha256
from data_prep.source import OpenSource, find_files, open_source
from data_prep.vocabulary import Moments
from data_prep.workplace import Replica, Workplace
from data_prep.writer import check_destination
from dlrm_mtl.files import read_json, write_json
from dlrm_mtl.schema import Schema, read_schema, write_schema

CHANGED = "a file of the log has changed since the preparation began"


class _Published(Exception):
    """The first replica has put the data set together."""


def prepare(
    name: str,
    generator: str,
    layout: Layout,
    raw: Sequence[Path],
    out: Path,
    ids: IdOptions,
    split: SplitOptions,
    work: WorkOptions,
    open_source: OpenSource = open_source,
    groundwork: Groundwork | None = None,
) -> Schema:
    """Prepares a data set, or goes on where an earlier run was stopped.

    Args:
        raw: files and directories of the log.
        generator: name of the entry point, for the schema.
        open_source: opens the log; each process does so for itself.
        groundwork: what must be done before the log can be read.

    Raises:
        ValueError: an option, a file or a row is not as it should be.
    """
    ids.validate(layout)
    work.validate()
    split.validate()
    check_destination(out)
    files = find_files(raw)
    preparation = Preparation(
        name,
        layout,
        tuple(files),
        ids,
        Split.of(split, len(files)),
        work.on_bad_row == "quarantine",
        work.keep_parsed,
        Workplace(out.absolute(), Replica.from_environment()),
        open_source,
        groundwork,
    )
    plan = preparation.plan()
    place = preparation.workplace
    if (done := _complete(out, plan)) is not None:
        place.clear_after(plan)
        return done
    lock = place.lock()

    def check_published() -> None:
        # The first replica takes the work away in the end, maybe before the others have looked.
        if place.replica.rank and _complete(out, plan) is not None:
            raise _Published

    try:
        place.open(plan, check_published)
        with Workers(work.workers) as workers:
            return _run_stages(preparation, generator, plan, workers, check_published)
    except _Published:
        place.clear()
        return read_schema(out)
    except BaseException as error:
        place.fail(error)
        kept = f"what is finished stays in {place.partial}, run again to go on"
        if isinstance(error, OSError):
            raise OSError(f"{error}; {kept}") from None
        if isinstance(error, KeyboardInterrupt):
            raise SystemExit(f"interrupted; {kept}") from None
        raise
    finally:
        lock.close()


def peak_memory() -> str:
    """The most memory that this process and its largest worker have had resident."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux the figure above begins with what the process had in memory that started this one.
        [own] = (int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return f"peak memory: {own:,.0f} MiB" + (f", largest worker {worker:,.0f} MiB" if worker else "")


def _complete(out: Path, plan: Mapping[str, Any]) -> Schema | None:
    """The data set, where it is there already and came from the same plan."""
    if not ((out / "schema.json").is_file() and (out / "plan.json").is_file()):
        return None
    return read_schema(out) if read_json(out / "plan.json") == json.loads(json.dumps(plan)) else None


def _run_stages(
    preparation: Preparation, generator: str, plan: Mapping[str, Any], workers: Workers, check: Callable[[], None]
) -> Schema:
    if preparation.groundwork is not None:
        work, files = partial(preparation.groundwork.work, preparation), preparation.groundwork.files
        _run_numbered(preparation, "groundwork", work, len(files), " files", workers, check)
    starts: dict[str, int] = {}
    if preparation.split.needs_row_numbers:
        lines = _pass(preparation, "index", partial(index_part, preparation), workers, check)
        first = 0
        for (file, segment), record in lines.items():
            starts[key_of(file, segment)] = first
            first += record["lines"]
        preparation = replace(preparation, split=preparation.split.resolve(first))
    scalers: dict[str, tuple[float, float, bool]] = {}
    if preparation.needs_counts:
        counted = _pass(preparation, "count", partial(run_part, preparation, CountPass(starts)), workers, check)
        scalers = _scalers(preparation, list(counted.values()))
        if preparation.ids.ids == "vocabulary":
            _merge(preparation, workers, check)
    encode = partial(run_part, preparation, EncodePass(starts, scalers))
    if preparation.workplace.replica.rank:
        _run(preparation, "encode", encode, workers, lambda: False, check)
    encoded = _pass(preparation, "encode", encode, workers, check)
    for file, now in zip(plan["files"], preparation.plan()["files"], strict=True):
        if any(file[key] != now[key] for key in ("bytes", "modified_ns")):
            raise ValueError(CHANGED)
    schema = assemble(preparation, generator, encoded, scalers)
    write_json(preparation.workplace.data / "plan.json", plan)
    write_schema(schema, preparation.workplace.data)
    preparation.workplace.publish()
    return schema


def _pass(
    preparation: Preparation,
    stage: str,
    work: Callable[[Part], Iterator[Any]],
    workers: Workers,
    check: Callable[[], None],
) -> dict[tuple[int, int], dict[str, Any]]:
    """Runs a pass until all replicas are through; the records of its segments."""
    found: dict[tuple[int, int], dict[str, Any]] = {}

    def is_done() -> bool:
        found.update(records(preparation, stage) or {})
        return bool(found)

    _run(preparation, stage, work, workers, is_done, check)
    return found


def _run(
    preparation: Preparation,
    stage: str,
    work: Callable[[Part], Iterator[Any]],
    workers: Workers,
    is_done: Callable[[], bool],
    check: Callable[[], None],
) -> None:
    """Runs a pass; ``check`` is called while others are waited for."""
    place = preparation.workplace
    parts = parts_of(preparation, stage)

    def is_over() -> bool:
        check()
        if is_done():
            return True
        if parts_of(preparation, stage) != parts:
            raise ValueError(CHANGED)
        return False

    files = preparation.files_of(stage)
    total = sum(preparation.files[file].stat().st_size for file in files)
    segments = {file: preparation.segments(file, stage) for file in files}
    progress = Progress(place.stage(stage), total, segments, "B", place.replica.rank == 0)
    run(work, parts, workers, place, is_over, progress)


def _merge(preparation: Preparation, workers: Workers, check: Callable[[], None]) -> None:
    tables = len(preparation.layout.tables)
    _run_numbered(preparation, "merge", partial(merge_table, preparation), tables, " tables", workers, check)


def _run_numbered(
    preparation: Preparation,
    stage: str,
    work: Callable[[int], Iterator[Any]],
    count: int,
    unit: str,
    workers: Workers,
    check: Callable[[], None],
) -> None:
    """Runs a stage whose pieces, and their markers, are numbers; ``check`` is called while others are waited for."""
    place = preparation.workplace
    progress = Progress(place.stage(stage), count, {}, unit, place.replica.rank == 0)

    def is_done() -> bool:
        check()
        return all(place.marker(stage, f"{number:03d}").is_file() for number in range(count))

    run(work, list(range(count)), workers, place, is_done, progress)


def merge_table(preparation: Preparation, number: int) -> Iterator[dict[str, Any]]:
    """Merges the counts of one embedding table into its vocabulary; yields its record."""
    place, key = preparation.workplace, f"{number:03d}"
    if record := place.finished("merge", key):
        yield record
        return
    name, features = list(preparation.layout.tables.items())[number]
    runs = sorted(place.file("runs", "x").parent.glob("*.arrow"))
    cap = preparation.ids.cap(preparation.layout, name)
    keys_file = place.file("vocabulary", f"{key}.npy")
    readable = keep(merge_runs(runs, number, name), features[0], preparation.ids.min_count, cap, keys_file)
    record = {"table": name}
    place.finish("merge", key, record, {path: sha256(path) for path in (keys_file, readable)})
    yield record


def _scalers(preparation: Preparation, counted: list[dict[str, Any]]) -> dict[str, tuple[float, float, bool]]:
    """Mean, deviation and whether values were missing, of the features that are standardised."""
    scalers = {}
    for column in preparation.layout.dense:
        if column.standardise:
            moments = Moments()
            for record in counted:
                moments.merge(Moments.from_record(record["moments"][column.feature]))
            scaler = moments.scaler()
            scalers[column.feature] = (scaler.mean, scaler.deviation, scaler.has_missing)
    return scalers
