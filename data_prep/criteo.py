"""``python -m data_prep.criteo``: Criteo's raw logs, or logs of that style, as a data set."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from data_prep.layout import read_layout
from data_prep.options import IdOptions, SplitOptions, WorkOptions
from data_prep.prepare import peak_memory, prepare
from data_prep.summary import report, summary
from dlrm_mtl import cli


@dataclass(frozen=True)
class Options:
    """Prepares Criteo's raw logs: the Kaggle challenge's train.txt, the 1 TB logs' day_0 to day_23, plain, .gz or .zst,
    and logs of other layouts."""

    raw: tuple[Path, ...]
    """Files of the log in their order, or directories of them."""
    out: Path
    """Directory of the data set; one that is there already is replaced. An interrupted run goes on when it is
    started again."""
    layout: str = "criteo"
    """criteo, criteo_uplift, criteo_sponsored_search, criteo_attribution, or a TOML file that says which columns are
    what."""
    tasks: tuple[str, ...] = ()
    """Tasks of the layout to keep; by default all."""
    ids: Annotated[IdOptions, tyro.conf.arg(name="")] = field(default_factory=IdOptions)
    split: Annotated[SplitOptions, tyro.conf.arg(name="")] = field(default_factory=SplitOptions)
    work: Annotated[WorkOptions, tyro.conf.arg(name="")] = field(default_factory=WorkOptions)


def main() -> None:
    options = cli.parse(Options, "data_prep.criteo")
    layout = read_layout(options.layout)
    if options.tasks:
        layout = layout.with_tasks(options.tasks)
    schema = prepare(
        layout.name, "data_prep.criteo", layout, options.raw, options.out, options.ids, options.split, options.work
    )
    print(f"{summary(schema, options.out)}\n{report(schema)}\n{peak_memory()}")


if __name__ == "__main__":
    cli.run("criteo", main)
