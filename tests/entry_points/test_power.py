"""``python -m dlrm_mtl.power``."""

import json
from pathlib import Path

import pytest

from tests.entry_points.processes import complaint, python
from tests.pages import ROOT

FEEDS = ROOT / "docs/results/experiments/kuairand-feeds/transfer"


def test_it_prints_a_table_and_writes_all_figures(tmp_path: Path) -> None:
    process = python("dlrm_mtl.power", "--run", FEEDS, "--json", tmp_path / "power.json")
    assert process.returncode == 0, process.stderr
    assert "multibalance_recommended" in process.stdout
    report = json.loads((tmp_path / "power.json").read_text())
    assert report["effect"] == 0.05
    assert len(report["gains"]) == 3 * 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--run", "nowhere"), "nowhere/comparison.json: not found"),
        (("--data", "nowhere"), "nowhere/schema.json: not found"),
    ],
)
def test_bad_options_are_told_in_a_line(options: tuple[str, ...], message: str) -> None:
    assert message in complaint(python("dlrm_mtl.power", *options))
