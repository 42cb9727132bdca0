"""The table of measured costs is made from the committed results."""

from pathlib import Path
from typing import Any

from dlrm_mtl.files import read_json

ROOT = Path(__file__).resolve().parents[1]
RUNS = ("methods-m3-1-rank", "methods-m3-2-ranks", "methods-m8-1-rank", "methods-m8-2-ranks")


def cost_table() -> str:
    """QPS change of every method against `mean`, one column per run."""
    comparisons = [read_json(ROOT / "docs" / "results" / run / "comparison.json")["arms"] for run in RUNS]
    lines = ["| arm | M = 3, 1 rank | M = 3, 2 ranks | M = 8, 1 rank | M = 8, 2 ranks |", "|---|---|---|---|---|"]
    lines += [f"| `{arm}` | {' | '.join(_change(arms[arm]) for arms in comparisons)} |" for arm in comparisons[0]]
    return "\n".join(lines[:2] + [line for line in lines[2:] if not line.startswith("| `mean` |")])


def _change(arm: dict[str, Any]) -> str:
    change = arm["qps"]["change_percent"]
    return f"{change['median']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}]"


def test_the_table_is_that_of_the_results() -> None:
    assert cost_table() in (ROOT / "docs" / "methods.md").read_text()
