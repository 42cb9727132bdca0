"""``python -m data_prep.parquet``: a log of one's own, parquet or delimited text, as a data set."""

from dataclasses import dataclass

from data_prep.raw_log import LogOptions, prepare_log
from dlrm_mtl import cli


@dataclass(frozen=True, kw_only=True)
class Options(LogOptions):
    """Prepares a table in parquet, CSV or TSV files by a layout, which says what its columns are."""

    layout: str
    """A TOML file (docs/data/parquet.md), or the name of a ready layout."""


def main() -> None:
    options = cli.parse(Options, "data_prep.parquet")
    prepare_log("data_prep.parquet", options.layout, options)


if __name__ == "__main__":
    cli.run("parquet", main)
