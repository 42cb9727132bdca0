"""Options and steps that all entry points with a layout share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from data_prep.columns.layout import read_layout
from data_prep.engine.options import ContextOptions, IdOptions, StreamOptions, WorkOptions
from data_prep.engine.prepare import peak_memory, prepare
from data_prep.engine.split import SplitOptions
from data_prep.output.summary import report, summary
from data_prep.sources.source import OpenSource, open_source
from dlrm_mtl.schema import Schema


@dataclass(frozen=True, kw_only=True)
class PreparationOptions:
    """Options of every preparation with a layout."""

    out: Path
    """Directory of the data set; an existing data set is replaced. An interrupted run is resumed by the same
    command."""
    ids: Annotated[IdOptions, tyro.conf.arg(name="")] = field(default_factory=IdOptions)
    stream: Annotated[StreamOptions, tyro.conf.arg(name="")] = field(default_factory=StreamOptions)
    context: Annotated[ContextOptions, tyro.conf.arg(name="")] = field(default_factory=ContextOptions)
    work: Annotated[WorkOptions, tyro.conf.arg(name="")] = field(default_factory=WorkOptions)


@dataclass(frozen=True, kw_only=True)
class LogOptions(PreparationOptions):
    """Options of a preparation by a layout of one's own choice."""

    raw: tuple[Path, ...]
    """Files of the log in their order, or directories of them: text, plain, .gz or .zst, or parquet."""
    tasks: tuple[str, ...] = ()
    """Tasks of the layout to keep; by default all."""
    split: Annotated[SplitOptions, tyro.conf.arg(name="")] = field(default_factory=SplitOptions)


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
    schema = prepare(
        layout.name,
        generator,
        layout,
        options.raw,
        options.out,
        options.ids,
        options.split,
        options.work,
        open_source,
        reader_version=reader_version,
        stream=options.stream,
    )
    print_outcome(schema, options.out)


def print_outcome(schema: Schema, out: Path) -> None:
    """Prints the summary and the peak memory."""
    print(f"{summary(schema, out)}\n{report(schema)}\n{peak_memory()}")
