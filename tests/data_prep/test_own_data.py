"""docs/examples/own_data: its commands lead from a raw table to a report."""

import json
import shlex
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dlrm_mtl.schema import Schema, read_schema
from tests.entry_points.processes import python
from tests.pages import ROOT, commands

SMALLER = {" 20000": " 600", "--seeds 2": "--seeds 1 --model.head-mlp 4"}
EXAMPLE = Path("docs/examples/own_data")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which all commands of the page were run."""
    directory = tmp_path_factory.mktemp("shop")
    for command in commands(ROOT / EXAMPLE / "README.md"):
        for of_page, of_test in {**SMALLER, "runs/shop": str(directory)}.items():
            command = command.replace(of_page, of_test)
        program, *arguments = shlex.split(command)
        if program != "python":
            subprocess.run([program, *arguments], check=True)
            continue
        module = arguments[1] if arguments[0] == "-m" else ".".join(Path(arguments[0]).with_suffix("").parts)
        process = python(module, *arguments[2 if arguments[0] == "-m" else 1 :])
        assert process.returncode == 0, process.stderr
    return directory


def test_a_comparison_reports_the_tasks_of_the_layout(shop: Path) -> None:
    comparison = json.loads((shop / "run" / "comparison.json").read_text())
    assert comparison["tasks"] == ["ctr", "cvr"]
    assert "multibalance_recommended" in (shop / "run" / "report.md").read_text()


def test_a_source_of_ones_own_gives_the_same_data_set(shop: Path) -> None:
    for split in ("train", "eval"):
        assert pq.read_table(shop / "data" / split).equals(pq.read_table(shop / "data-of-json" / split))


def test_the_schema_of_the_encoded_shards_is_that_of_the_preparation(shop: Path) -> None:
    def facts(schema: Schema) -> list[object]:
        return [schema.categorical, schema.dense, schema.tasks, schema.splits, schema.cluster]

    assert facts(read_schema(shop / "encoded")) == facts(read_schema(shop / "data"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("no JSON", "log.jsonl: cannot be read"),
        ('{"user_id": 1}', "log.jsonl: column 'item' is missing"),
        ("a bad label", "log.jsonl, line 1, column 'clicked': 'maybe'"),
    ],
)
def test_a_bad_file_of_ones_own_format_is_named(shop: Path, tmp_path: Path, line: str, expected: str) -> None:
    good = (shop / "log.jsonl").read_text().partition("\n")[0]
    bad = json.dumps({**json.loads(good), "clicked": "maybe"}) if line == "a bad label" else line
    (tmp_path / "log.jsonl").write_text(f"{bad}\n")
    arguments: list[str | Path] = ["--layout", ROOT / EXAMPLE / "shop.toml", "--out", tmp_path / "out"]
    process = python("docs.examples.own_data.json_lines", "--raw", tmp_path / "log.jsonl", *arguments)
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert expected in process.stderr
