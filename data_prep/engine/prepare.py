"""Prepares a data set from a raw log, stage by stage."""

import json
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from data_prep.columns.layout import Layout
from data_prep.encoding.encoding import Encoding
from data_prep.encoding.extending import read_previous
from data_prep.encoding.reuse import ReusedEncoding, read_reused
from data_prep.engine.assembly import assemble
from data_prep.engine.count_pass import CountPass
from data_prep.engine.encode_pass import EncodePass
from data_prep.engine.evaluation_rows import EvaluationRows, EvaluationSplit
from data_prep.engine.learning import copy_vocabulary, learnt_encoding, merge_table, reused_encoding
from data_prep.engine.options import IdOptions, StreamOptions, WorkOptions
from data_prep.engine.preparation import Preparation, Preprocessing, key_of
from data_prep.engine.segments import index_part, run_part
from data_prep.engine.split import Split, SplitOptions
from data_prep.engine.stages import CHANGED, Records, StageRunner
from data_prep.engine.work_directory import Replica, WorkDirectory
from data_prep.engine.workers import Workers
from data_prep.output.raw_context import RawContext
from data_prep.sources.raw_files import find_files
from data_prep.sources.source import OpenSource, open_source
from data_prep.sources.times import NUMERIC, Times, find_times, parse_time
from dlrm_mtl.files import read_json, write_json
from dlrm_mtl.location import Location
from dlrm_mtl.schema import Schema, read_schema, write_schema
from dlrm_mtl.storage.publishing import check_destination

Result = TypeVar("Result")


class _Published(Exception):
    """The first replica has published the data set."""


def prepare(
    name: str,
    generator: str,
    layout: Layout,
    raw: Sequence[Location],
    out: Location,
    ids: IdOptions,
    split: SplitOptions,
    work: WorkOptions,
    open_source: OpenSource = open_source,
    preprocessing: Preprocessing | None = None,
    reader_version: str = "",
    stream: StreamOptions | None = None,
) -> Schema:
    """Prepares a data set, or resumes an interrupted preparation.

    Args:
        generator: name of the entry point, for the schema.
        name, layout, raw, ids, split, work, open_source, preprocessing, reader_version, stream: as for
            :func:`plan_preparation`.

    Raises:
        ValueError: an option, a file or a row is invalid.
    """
    work.validate(out)
    check_destination(out)
    preparation = plan_preparation(
        name, layout, raw, out, ids, split, work, open_source, preprocessing, reader_version, stream
    )
    with Workers(work.workers) as workers:
        return run_preparation(preparation, generator, workers)


def plan_preparation(
    name: str,
    layout: Layout,
    raw: Sequence[Location],
    out: Location,
    ids: IdOptions,
    split: SplitOptions,
    work: WorkOptions,
    open_source: OpenSource = open_source,
    preprocessing: Preprocessing | None = None,
    reader_version: str = "",
    stream: StreamOptions | None = None,
) -> Preparation:
    """Checks the options of a preparation.

    Args:
        raw: files and directories of the log.
        open_source: opens the log.
        preprocessing: work that must precede the reading of the log.
        reader_version: version of code outside this project that reads the log; work of another version is not resumed.
        stream: whether all rows go to the split stream, and which data set this one continues; by default neither.

    Raises:
        ValueError: an option is invalid, or a file is missing.
    """
    ids.validate(layout)
    work.validate(out)
    split.validate()
    layout = split.apply(layout)
    stream = stream or StreamOptions()
    if stream.is_used:
        split.refuse()
        ids.check_stream()
    reused = previous = None
    if ids.encoding is not None:
        reused = read_reused(ids.encoding, "log", out)
    if stream.extend is not None:
        previous = read_previous(stream.extend, "log", out)
    for encoded_by in (reused, None if previous is None else previous.reused):
        if encoded_by is not None:
            encoded_by.check_features(layout.categorical, layout.dense)
            encoded_by.check_texts(layout.trim, layout.missing)
            encoded_by.label_scales(layout.tasks, layout.label_formulas)  # raises where a label differs
    if previous is not None:
        ids = ids.going_on(previous, layout)
        previous.check_cluster(layout.cluster)
    files, passed_over = find_files(raw)
    preparation = Preparation(
        name,
        layout,
        tuple(files),
        ids,
        Split.of_stream() if stream.is_used else Split.of(split, len(files)),
        work.on_bad_row == "quarantine",
        work.keep_parsed,
        WorkDirectory(out.absolute(), Replica.from_environment(), place=work.work),
        open_source,
        preprocessing,
        passed_over,
        reader_version=reader_version,
        reused=reused,
        previous=previous,
    )
    return replace(preparation, times=_times_of(preparation, split)) if layout.time_column else preparation


def run_preparation(preparation: Preparation, generator: str, workers: Workers, replaces: bool = True) -> Schema:
    """Runs a preparation, or resumes it.

    Args:
        generator: name of the entry point, for the schema.
        replaces: whether another data set in its place is replaced.

    Raises:
        ValueError: a file or a row is invalid, or another data set is there and not to be replaced.
    """
    plan, directory = preparation.plan(), preparation.directory
    if (done := _complete(directory.out, plan)) is not None:
        directory.clear_after(plan)
        return done
    if not replaces and (directory.out / "schema.json").is_file():
        raise ValueError(f"{directory.out}: is a data set of other rows or options; give another out, or remove it")
    schema = at_work(
        preparation,
        plan,
        workers,
        lambda runner: _run_stages(runner, generator, plan),
        lambda: _complete(directory.out, plan) is not None,
    )
    return read_schema(directory.out) if schema is None else schema


def at_work(
    preparation: Preparation,
    plan: Mapping[str, Any],
    workers: Workers,
    stages: Callable[[StageRunner], Result],
    is_published: Callable[[], bool],
) -> Result | None:
    """Runs stages in the preparation's work directory, which no other process uses meanwhile.

    Args:
        is_published: whether the first replica has finished; the others end then.

    Returns:
        What ``stages`` returns; None: the first replica has finished before.
    """
    directory = preparation.directory
    lock = directory.lock()

    def check_published() -> None:
        # The first replica removes the work directory at the end, maybe before the others have checked.
        if directory.replica.rank and is_published():
            raise _Published

    try:
        directory.open(plan, check_published)
        return stages(StageRunner(preparation, workers, check_published))
    except _Published:
        directory.clear()
        return None
    except BaseException as error:
        directory.fail(error)
        note = f"what is finished stays in {directory.partial}, run again to go on"
        if isinstance(error, OSError):
            raise OSError(f"{error}; {note}") from None
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"interrupted; {note}") from None
        raise
    finally:
        lock.close()


def _times_of(preparation: Preparation, split: SplitOptions) -> Times:
    column = preparation.layout.time_column
    if split.eval_from:
        return Times(column, parse_time(split.eval_from)[1])
    if preparation.layout.uses[column] in NUMERIC:
        return Times(column, are_numbers=True)
    return find_times(preparation.source, column)


def peak_memory() -> str:
    """Peak resident memory of this process and of its largest worker, as text."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux the figure above includes the memory of the process that started this one.
        [own] = (int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return f"peak memory: {own:,.0f} MiB" + (f", largest worker {worker:,.0f} MiB" if worker else "")


def _complete(out: Location, plan: Mapping[str, Any]) -> Schema | None:
    """The finished data set of the same plan; None: there is none."""
    if not ((out / "schema.json").is_file() and (out / "plan.json").is_file()):
        return None
    return read_schema(out) if read_json(out / "plan.json") == json.loads(json.dumps(plan)) else None


def _run_stages(runner: StageRunner, generator: str, plan: Mapping[str, Any]) -> Schema:
    preparation = runner.preparation
    if (preprocessing := preparation.preprocessing) is not None:
        work = partial(preprocessing.work, preparation)
        runner.over_numbers("preprocess", work, len(preprocessing.files), " files")
    starts: dict[str, int] = {}
    if preparation.split.needs_row_numbers:
        lines = runner.over_segments("index", partial(index_part, preparation))
        first = 0
        for (file, segment), record in lines.items():
            starts[key_of(file, segment)] = first
            first += record["lines"]
        preparation = replace(preparation, split=preparation.split.resolve(first))
        runner = replace(runner, preparation=preparation)
    encoding = _reuse(runner, preparation.reused) if preparation.reused is not None else _learn(runner, starts)
    encode = partial(run_part, preparation, EncodePass(starts, encoding))
    if preparation.directory.replica.rank and preparation.context is None:
        runner.over_segments_to_the_end("encode", encode)
    encoded = runner.over_segments("encode", encode)
    evaluation = _finish_evaluation(runner, preparation.context, encoded) if preparation.context is not None else None
    for file, now in zip(plan["files"], preparation.plan()["files"], strict=True):
        if any(file[key] != now[key] for key in ("bytes", "modified_ns")):
            raise ValueError(CHANGED)
    schema = assemble(preparation, generator, encoded, encoding, evaluation)
    write_json(preparation.directory.data / "plan.json", plan)
    write_schema(schema, preparation.directory.data)
    preparation.directory.publish()
    return schema


def _learn(runner: StageRunner, starts: Mapping[str, int]) -> Encoding:
    """The encoding that the training rows give; ``starts`` as in :class:`CountPass`."""
    preparation = runner.preparation
    counted: Records = {}
    if preparation.needs_counts:
        counted = runner.over_segments("count", partial(run_part, preparation, CountPass(starts)))
        if preparation.ids.ids == "vocabulary":
            tables = len(preparation.layout.tables)
            runner.over_numbers("merge", partial(merge_table, preparation), tables, " tables")
    return learnt_encoding(preparation, counted.values())


def _reuse(runner: StageRunner, reused: ReusedEncoding) -> Encoding:
    """The encoding of another data set, whose vocabularies are copied."""
    tables = len(reused.encoding.tables_with_vocabulary)
    if tables:
        runner.over_numbers("vocabulary", partial(copy_vocabulary, runner.preparation), tables, " tables")
    return reused_encoding(runner.preparation, reused)


def _finish_evaluation(runner: StageRunner, context: RawContext, encoded: Records) -> EvaluationSplit | None:
    """Writes the final shards of the evaluation rows; None: there are none."""
    rows = EvaluationRows.of(runner.preparation, context, encoded)
    if rows.parts:
        runner.over_numbers("context", rows.describe, 1, " pieces")
    if runner.preparation.directory.replica.rank:
        runner.over_numbers_to_the_end("evaluation", rows.write, len(rows.parts), " shards")
    if not rows.parts:
        return None
    runner.over_numbers("evaluation", rows.write, len(rows.parts), " shards")
    return rows.result()
