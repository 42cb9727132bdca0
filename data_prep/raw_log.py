"""Options and steps that all entry points with a layout share."""

from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from data_prep.columns.layout import read_layout
from data_prep.columns.periods import Every
from data_prep.engine.options import ContextOptions, IdOptions, StreamOptions, WorkOptions
from data_prep.engine.prepare import peak_memory, plan_preparation, prepare
from data_prep.engine.split import SplitOptions
from data_prep.engine.workers import Workers
from data_prep.output.summary import line_of_day, report, summary
from data_prep.periods.cutting import CutLog, prepare_periods
from data_prep.sources.source import OpenSource, open_source
from dlrm_mtl.location import Location
from dlrm_mtl.schema import Schema


@dataclass(frozen=True, kw_only=True)
class PreparationOptions:
    """Options of every preparation with a layout."""

    out: Location
    """Directory of the data set; an existing data set is replaced. An interrupted run is resumed by the same command.
    A URI is written to at the end, from the directory --work."""
    ids: Annotated[IdOptions, tyro.conf.arg(name="")] = field(default_factory=IdOptions)
    stream: Annotated[StreamOptions, tyro.conf.arg(name="")] = field(default_factory=StreamOptions)
    context: Annotated[ContextOptions, tyro.conf.arg(name="")] = field(default_factory=ContextOptions)
    work: Annotated[WorkOptions, tyro.conf.arg(name="")] = field(default_factory=WorkOptions)


@dataclass(frozen=True, kw_only=True)
class LogOptions(PreparationOptions):
    """Options of a preparation by a layout of one's own choice."""

    raw: tuple[Location, ...]
    """Files of the log in their order, or directories of them: text, plain, .gz or .zst, or parquet."""
    tasks: tuple[str, ...] = ()
    """Tasks of the layout to keep; by default all."""
    split: Annotated[SplitOptions, tyro.conf.arg(name="")] = field(default_factory=SplitOptions)
    every: Every | None = None
    """Cuts the log into days or hours (in UTC) by time_column: data sets OUT/2022-04-25, ..., each of which continues
    the one before; with extend, the first one continues that one, and rows that are no later are left out."""


def prepare_log(
    generator: str,
    layout_name: str,
    options: LogOptions,
    open_source: OpenSource = open_source,
    reader_version: str = "",
) -> None:
    """Prepares the data set and prints the summary.

    Args:
        generator: module of the entry point.
        layout_name: a ready layout, or a TOML file.
        open_source, reader_version: as for :func:`prepare`.
    """
    layout = options.context.apply(read_layout(layout_name))
    if options.tasks:
        layout = layout.with_tasks(options.tasks)
    common = (options.raw, options.out, options.ids, options.split, options.work, open_source, None, reader_version)
    if options.every is None:
        schema = prepare(layout.name, generator, layout, *common, options.stream)
        print_outcome(schema, options.out)
    else:
        stream = replace(options.stream, stream=True)
        preparation = plan_preparation(layout.name, layout, *common, stream)
        with Workers(options.work.workers) as workers:
            cut = prepare_periods(preparation, generator, options.every, workers)
        print_periods(cut)


def print_periods(cut: CutLog) -> None:
    """Prints a line for each period, what is left out, and the peak memory."""
    for directory, schema in cut.data_sets.items():
        print(line_of_day(directory, schema))
    for name in cut.empty:
        print(f"{name}: no rows, skipped")
    if cut.rows_before:
        print(f"{cut.rows_before:,} rows are no later than the data set that is continued; they are left out")
    print(peak_memory())


def print_outcome(schema: Schema, out: Location) -> None:
    """Prints the summary and the peak memory."""
    print(f"{summary(schema, out)}\n{report(schema)}\n{peak_memory()}")
