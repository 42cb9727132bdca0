"""What the documents say runs, and their numbers come from committed results."""

import json
import re
from pathlib import Path

import pytest

from dlrm_mtl import cli
from dlrm_mtl.config import CompareConfig
from dlrm_mtl.reporting.markdown import format_comparison

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
RESULTS = sorted(path.parent for path in ROOT.glob("docs/results/*/comparison.json"))


def blocks(document: Path, language: str) -> list[str]:
    """Fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if blocks(path, "python")], ids=lambda path: path.name)
def test_python_examples_run(document: Path) -> None:
    for code in blocks(document, "python"):
        exec(compile(code, str(document), "exec"), {"__name__": "example"})


def test_the_configuration_example_is_valid(tmp_path: Path) -> None:
    [example] = blocks(ROOT / "docs/running.md", "toml")
    (tmp_path / "run.toml").write_text(example)
    config = cli.parse(CompareConfig, "compare", ["--config", str(tmp_path / "run.toml"), "--seeds", "5"])
    assert config.model.interaction == "low_rank_dcn"
    assert config.optimizer.dense_schedule.warmup_steps == 100
    assert config.seeds == 5


@pytest.mark.parametrize("result", RESULTS, ids=lambda path: path.name)
def test_reports_are_rendered_from_their_results(result: Path) -> None:
    comparison = json.loads((result / "comparison.json").read_text())
    assert format_comparison(comparison) in (result / "report.md").read_text()
    for name in ("config.json", "environment.json"):
        assert json.loads((result / name).read_text())


def test_every_table_row_of_the_readme_is_in_a_report() -> None:
    rows = re.findall(r"^\| (?:mean|multibalance).*$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    reports = "\n".join((result / "report.md").read_text() for result in RESULTS)
    assert len(rows) >= 2
    assert [row for row in rows if row not in reports] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target
