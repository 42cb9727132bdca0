"""Cells and tables in Markdown, for the documents' tables of results."""

from collections.abc import Mapping, Sequence
from typing import Any

DATA_SETS = {
    "kuairand-feeds": "KuaiRand feeds",
    "kuairand-ads": "KuaiRand ads",
    "census-income": "Census-Income",
    "synthetic-conflict-0": "synthetic, conflict 0",
    "synthetic-conflict-0.5": "synthetic, conflict 0.5",
    "synthetic-conflict-1": "synthetic, conflict 1",
}
"""Data sets of the committed experiments, by their folders."""


def average_and_worst(record: Mapping[str, Any]) -> tuple[str, str]:
    """The average gain, and that of the task that gains least, each with its interval and its verdict."""
    gains = gains_of(record)
    if None in gains.values():
        return "NEX", "NEX"
    worst = min(gains, key=lambda task: float(gains[task]["mean"]))
    return judged(record["average_ne_gain_percent"]), f"{worst} {judged(gains[worst])}"


def gains_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The gain of each task: in NE, of a regression in NMSE."""
    return {
        task: values["nmse_gain_percent" if values.get("kind") == "regression" else "ne_gain_percent"]
        for task, values in record["tasks"].items()
    }


def judged(gain: Mapping[str, Any]) -> str:
    verdict = gain["verdict"]
    return interval(gain) if verdict in (None, "inconclusive") else f"{interval(gain)} **{verdict}**"


def interval(record: Mapping[str, float] | None) -> str:
    return "NEX" if record is None else f"{record['mean']:+.3f} [{record['low']:+.3f}, {record['high']:+.3f}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
