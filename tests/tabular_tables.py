"""The table of periodic embeddings on tabular data in docs/control.md."""

from collections.abc import Callable, Mapping
from typing import Any

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
    "bank-plain": ("Bank Marketing, calls before the test rows", "none"),
    "bank-numeric": ("Bank Marketing, calls before the test rows", "32"),
    "bank-marketing": ("Bank Marketing, last tenth", "none"),
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
        ne = [_reached(arms[arm]["tasks"]) if arm in arms else "" for arm in ("mean", "lightgbm")]
        rows.append(
            [evaluated, frequencies, str(len(arms["mean"]["seeds"])), *ne, *average_and_worst(arms[RECOMMENDED])]
        )
    heads = ["evaluation rows", "frequencies", "seeds", "NE of `mean`", "NE of LightGBM"]
    return table([*heads, "recipe: average gain", "worst task"], rows)


def _reached(tasks: Mapping[str, Any]) -> str:
    return ", ".join(f"{task} {values['ne']:.4f}" for task, values in tasks.items())
