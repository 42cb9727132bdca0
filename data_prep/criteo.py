"""``python -m data_prep.criteo``: Criteo's public logs as data sets."""

from dataclasses import dataclass

from data_prep.raw_log import LogOptions, prepare_log
from dlrm_mtl import cli


@dataclass(frozen=True, kw_only=True)
class Options(LogOptions):
    """Prepares Criteo's raw logs: the Kaggle challenge's train.txt, the 1 TB logs' day_0 to day_23, and others."""

    layout: str = "criteo"
    """criteo: the display advertising logs of Kaggle and of 1 TB. criteo_uplift, criteo_sponsored_search,
    criteo_attribution; or a TOML file for another number of labels, integers and categorical columns."""


def main() -> None:
    options = cli.parse(Options, "data_prep.criteo")
    prepare_log("data_prep.criteo", options.layout, options)


if __name__ == "__main__":
    cli.run("criteo", main)
