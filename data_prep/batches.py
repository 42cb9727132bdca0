"""Raw logs in formats of one's own: a function that reads one file as Arrow record batches makes an entry point.

::

    # clicks.py
    from data_prep import batches

    def read(path: Path) -> Iterator[pa.RecordBatch]:
        yield from pyarrow.json.open_json(path)

    if __name__ == "__main__":
        batches.run("clicks", read)

``python -m clicks --raw FILES --layout clicks.toml --out DATA`` then has the options of ``data_prep.parquet``: workers,
resuming, bad rows, splits and ids are as everywhere.
"""

import hashlib
import inspect
from dataclasses import dataclass
from functools import partial

from data_prep.raw_log import LogOptions, prepare_log
from data_prep.sources.batch_log import BatchLog, ReadFile
from dlrm_mtl import cli


@dataclass(frozen=True, kw_only=True)
class Options(LogOptions):
    """Prepares a log in a format of one's own by a layout, which says what its columns are."""

    layout: str
    """A TOML file (docs/data/parquet.md)."""


def run(program: str, read: ReadFile) -> None:
    """Runs the module that calls it as an entry point.

    Args:
        program: name of the module.
        read: reads one file, see :data:`~data_prep.sources.batch_log.ReadFile`. A function of a module: worker
            processes import it. Its module's source is part of what the data set depends on: a preparation that was
            begun with another version is refused.
    """
    cli.run(program, partial(_main, program, read))


def _main(program: str, read: ReadFile) -> None:
    options = cli.parse(Options, program)
    source = inspect.getsource(inspect.getmodule(read) or read)
    version = hashlib.sha256(source.encode()).hexdigest()
    prepare_log(program, options.layout, options, partial(BatchLog, read=read), version)
