"""The figure and the table of the experiment ``front`` in the documents, from committed results."""

from collections.abc import Callable, Iterator
from typing import Any

from dlrm_mtl.files import read_json
from dlrm_mtl.reporting.figures.front_figure import front_figure
from tests.benchmark_tables import RESULTS
from tests.table_cells import DATA_SETS, interval, table

FRONTS = RESULTS / "front"
FIGURE = FRONTS / "front.svg"
VALIDATION = {
    "kuairand-feeds-validation": "KuaiRand feeds, validation days",
    "kuairand-ads-validation": "KuaiRand ads, validation days",
    "census-income-validation": "Census-Income, a fifth of the training file",
    "synthetic-conflict-0.5": "synthetic, conflict 0.5",
}
SHARING = {name: f"{title}, six architectures" for name, title in DATA_SETS.items() if name not in VALIDATION}
TITLES = {**VALIDATION, **SHARING}
"""Panels of the figure, by their folders."""


def front_tables() -> dict[str, Callable[[], str]]:
    """By their names in the documents' marks."""
    return {"front": front}


def front() -> str:
    """The arms that no other arm exceeds both on average and in the worst task, by data set."""
    rows = []
    for title, record in read_fronts():
        on_front = {arm: point for arm, point in record["arms"].items() if point["on_front"]}
        for number, (arm, point) in enumerate(on_front.items(), start=1):
            worst, share = point["worst"], f"{point['share_on_front']:.2f}"
            cells = [interval(point["average"]), f"{worst['task']} {interval(worst)}"]
            rows.append([title, str(number), f"`{arm}`", *cells, share])
    return table(["data", "", "arm", "average", "worst task", "share of draws"], rows)


def figure() -> str:
    """The fronts of all data sets, as the text of an SVG file."""
    return front_figure(dict(read_fronts()))


def read_fronts() -> Iterator[tuple[str, Any]]:
    """The titles of the committed fronts, and their content."""
    for name, title in TITLES.items():
        file = FRONTS / name / "front.json"
        if file.is_file():
            yield title, read_json(file)
