"""Tables in the documents about LightGBM, from committed results."""

from collections.abc import Callable
from typing import Any

from dlrm_mtl.files import read_json
from dlrm_mtl.studies.catalog import CONTROL, RECOMMENDED
from tests.benchmark_tables import RESULTS
from tests.table_cells import DATA_SETS, judged, table

LIGHTGBM = "lightgbm"


def tree_tables() -> dict[str, Callable[[], str]]:
    """By their names in the documents' marks."""
    return {"trees": trees, "trees-search": search}


def trees() -> str:
    """By task: NE of control, recommended recipe and LightGBM, and what LightGBM gains over the control."""
    rows = []
    for name, title in DATA_SETS.items():
        file = RESULTS / "trees" / name / "comparison.json"
        if not file.is_file():
            continue
        comparison = read_json(file)
        for task in comparison["tasks"]:
            reached = [comparison["arms"][arm]["tasks"][task] for arm in (CONTROL, RECOMMENDED, LIGHTGBM)]
            rows.append(
                [title, task, *(f"{values['ne']:.4f}" for values in reached), judged(reached[-1]["ne_gain_percent"])]
            )
    return table(["data", "task", f"`{CONTROL}`", f"`{RECOMMENDED}`", f"`{LIGHTGBM}`", "gain of LightGBM (%)"], rows)


def search() -> str:
    """NE of LightGBM with several options on validation days and splits."""
    rows: list[list[str]] = []
    for name, trials in read_json(RESULTS / "trees" / "search.json").items():
        for trial in trials:
            rows.append([DATA_SETS[name], _options(trial["options"]), _reached(trial["ne"])])
    return table(["data", "options", "NE"], rows)


def _options(options: dict[str, Any]) -> str:
    return " ".join(f"`--{name.replace('_', '-')} {value}`" for name, value in options.items())


def _reached(ne: dict[str, float]) -> str:
    return ", ".join(f"{task} {value:.4f}" for task, value in ne.items())
