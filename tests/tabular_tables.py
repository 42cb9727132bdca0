"""The table of periodic embeddings on tabular data in docs/control.md."""

from collections.abc import Callable

from dlrm_mtl.files import read_json
from dlrm_mtl.studies.catalog import RECOMMENDED
from tests.benchmark_tables import RESULTS
from tests.table_cells import average_and_worst, table

RUNS = {
    "adult-plain": ("Adult, a fifth of the training file", "none"),
    "adult-numeric": ("Adult, a fifth of the training file", "32"),
    "census-plain": ("Census-Income, a fifth of the training file", "none"),
    "census-numeric": ("Census-Income, a fifth of the training file", "32"),
    "census-income": ("Census-Income, test file", "32"),
}
"""Folders of comparisons: evaluation rows, and frequencies."""


def tabular_tables() -> dict[str, Callable[[], str]]:
    return {"tabular": tabular}


def tabular() -> str:
    rows = []
    for name, (evaluated, frequencies) in RUNS.items():
        directory = RESULTS / "controls" / name
        if not directory.is_dir():
            continue
        arms = read_json(directory / "comparison.json")["arms"]
        ne = [
            f"{arms[arm]['tasks'][task]['ne']:.4f}" if arm in arms else ""
            for task in ("income", "never_married")
            for arm in ("mean", "lightgbm")
        ]
        rows.append(
            [evaluated, frequencies, str(len(arms["mean"]["seeds"])), *ne, *average_and_worst(arms[RECOMMENDED])]
        )
    heads = [f"{task}: NE of {arm}" for task in ("income", "never_married") for arm in ("`mean`", "LightGBM")]
    return table(["evaluation rows", "frequencies", "seeds", *heads, "recipe: average gain", "worst task"], rows)
