"""``python -m dlrm_mtl.experiments``."""

import json
from pathlib import Path

import pytest

from tests.entry_points.processes import python, run
from tests.messages import mentions

OPTIONS = ("--batch-size", "64", "--log-every", "2", "--max-steps", "4", "--model.head-mlp", "8", "--seeds", "1")


@pytest.fixture(scope="module")
def out(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "search"
    options: list[str | Path] = ["--data", small_dataset, "--out", out, "--trials", "3", *OPTIONS]
    process = python("dlrm_mtl.experiments", "search", *options)
    assert process.returncode == 0, process.stderr
    assert mentions(process.stdout, "search", 5, 1, 4, 64, "1,280")
    return out


def test_an_experiment_is_a_comparison_with_a_verdict(out: Path) -> None:
    comparison = json.loads((out / "search" / "comparison.json").read_text())
    assert list(comparison["arms"])[:2] == ["mean", "multibalance_recommended"]
    assert len(comparison["arms"]) == 5
    text = (out / "report.md").read_text()
    assert "## Search of static weights" in text
    assert "multibalance_recommended" in text


def test_what_is_finished_is_not_done_again(out: Path, small_dataset: Path) -> None:
    before = (out / "search" / "seed-0.json").stat().st_mtime_ns
    options: list[str | Path] = ["--data", small_dataset, "--out", out, "--trials", "3", *OPTIONS]
    process = python("dlrm_mtl.experiments", "search", *options)
    assert process.returncode == 0, process.stderr
    assert mentions(process.stdout, 1, "finished before")
    assert (out / "search" / "seed-0.json").stat().st_mtime_ns == before


def test_all_of_them(small_dataset: Path, tmp_path: Path) -> None:
    options: list[str | Path] = ["--data", small_dataset, "--out", tmp_path, "--trials", "2", *OPTIONS]
    process = python("dlrm_mtl.experiments", "all", *options)
    assert process.returncode == 0, process.stderr
    names = ["table2", "table3", "table4", "figure2", "transfer", "search"]
    assert [name for name in names if (tmp_path / name / "comparison.json").is_file()] == names
    text = (tmp_path / "report.md").read_text()
    assert [text.count(f"## {title}") for title in ("Table 2", "Table 3", "Table 4", "Figure 2", "Negative")] == [1] * 5


def test_help_lists_the_experiments_quickly() -> None:
    process = run("python", "-X", "importtime", "-m", "dlrm_mtl.experiments", "--help")
    assert process.returncode == 0
    assert "transfer" in process.stdout
    assert " torch\n" not in process.stderr


@pytest.mark.parametrize("arguments", [[], ["table9", "--data", "x"]])
def test_an_unknown_experiment_is_named(arguments: list[str]) -> None:
    process = python("dlrm_mtl.experiments", *arguments)
    assert process.returncode == 2
    expected = "table2, table3, table4, figure2, transfer, search, all, architectures, front, trees, theory"
    assert expected in process.stderr
