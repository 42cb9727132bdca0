"""Examples in the documents run, and their numbers come from committed results."""

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.benchmark.ratios import format_results
from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout, read_layout
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from dlrm_mtl import cli
from dlrm_mtl.benchmarks.checkpoint import format_checkpoint
from dlrm_mtl.benchmarks.growth.page import growth_page
from dlrm_mtl.benchmarks.reader import format_reader
from dlrm_mtl.records import build
from dlrm_mtl.reporting.figures.front_figure import front_figure
from dlrm_mtl.reporting.markdown import format_comparison
from dlrm_mtl.reporting.runs.comparison_records import read_comparison
from dlrm_mtl.run_config import CompareConfig, TrainConfig
from dlrm_mtl.studies.front.report import format_front
from dlrm_mtl.studies.theory_table import format_theory
from dlrm_mtl.training.machine import Machine, check_machine
from tests.benchmark_tables import BENCHMARKS, format_benchmark
from tests.distributed.training import run_config, train_steps
from tests.front_tables import FIGURE, figure
from tests.pages import ROOT, blocks, commands
from tests.ranks import RankPool
from tests.result_tables import COST_RUNS, MARKED, tables

LINK_TEXT = re.compile(r"\[([^]]*)\]\([^)]*\)")


def anchors(page: Path) -> list[str]:
    """GitHub's anchors of a page's headings: lower case, without punctuation, hyphens for blanks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.*)$", text, flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", LINK_TEXT.sub(r"\1", heading).lower()).replace(" ", "-") for heading in headings]


DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
RESULTS = sorted(path.parent for path in ROOT.glob("docs/results/**/comparison.json"))


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


def test_the_options_for_gpus_are_valid_there_and_refused_elsewhere(tmp_path: Path) -> None:
    [example] = blocks(ROOT / "docs/gpu.md", "toml")
    (tmp_path / "gpu.toml").write_text(example)
    required = ["--config", str(tmp_path / "gpu.toml"), "--data", "data", "--out", "out"]
    check_machine(cli.parse(TrainConfig, "train", required), Machine("cuda", (9, 0)))
    without: dict[str, tuple[str, ...]] = {
        "tf32": ("--tf32", "False"),
        "sharding.kernels": ("--sharding.kernels", "fused"),
        "sharding.cache_load_factor": ("--sharding.cache-load-factor", "None"),
        "sharding.prefetch": ("--sharding.prefetch", "False"),
        "sharding.comms.forward": ("--sharding.comms.forward", "fp32"),
        "sharding.comms.backward": ("--sharding.comms.backward", "fp32"),
    }
    for option in without:
        others = [word for name, words in without.items() if name != option for word in words]
        with pytest.raises(ValueError, match=f"^{option} is "):
            check_machine(cli.parse(TrainConfig, "train", [*required, *others]), Machine("cpu"))
    alone = [word for words in without.values() for word in words]
    check_machine(cli.parse(TrainConfig, "train", [*required, *alone]), Machine("cpu"))


def test_the_layout_example_prepares_the_log_it_describes(tmp_path: Path, rank_pool: RankPool) -> None:
    document = ROOT / "docs/data/parquet.md"
    example, with_numbers = blocks(document, "toml")
    (tmp_path / "shop.toml").write_text(example)
    layout = read_layout(str(tmp_path / "shop.toml"))
    log = pa.table(
        {
            "user_id": list(range(40)),
            "site": ["a", "b"] * 20,
            "device": ["phone", None] * 20,
            "viewed": [[1, 2], [], None, [3]] * 10,
            "item": [3, 1] * 20,
            "tags": ["red|summer", None] * 20,
            "age": [30, None] * 20,
            "price": [9.5, 20.0] * 20,
            "clicked": ["yes", "yes", "no", "yes"] * 10,
            "seconds_to_order": [60.0, None, None, 1e6] * 10,
        }
    )
    pq.write_table(log, tmp_path / "log.parquet")
    options = (IdOptions(), SplitOptions(), WorkOptions())
    schema = prepare("shop", "test", layout, [tmp_path / "log.parquet"], tmp_path / "out", *options)
    assert (len(schema.categorical), len(schema.tables)) == (6, 5)
    assert schema.dense == ("age", "price", "age_missing")
    assert [(task.name, task.given, task.base_rate) for task in schema.tasks] == [
        ("ctr", "", 0.75),
        ("cvr", "click", pytest.approx(1 / 3)),
    ]
    numbers = build(Layout, tomllib.loads(example) | tomllib.loads(with_numbers), "")
    assert [(task.label, task.kind, task.weight) for task in numbers.tasks] == [
        ("watch", "regression", "importance"),
        ("amount", "regression", "importance"),
    ]
    [trained] = rank_pool.run(1, train_steps, run_config(tmp_path / "out", batch_size=12), "multibalance", 2)
    assert np.isfinite(trained["losses"]).all()
    described = re.findall(r"`(\w+)`", document.read_text())
    for kind in (Layout, CategoricalColumn, DenseColumn, LabelColumn):
        assert [item.name for item in fields(kind) if item.name not in described] == []


@pytest.mark.parametrize("result", RESULTS, ids=lambda path: str(path.relative_to(ROOT / "docs/results")))
def test_reports_are_rendered_from_their_results(result: Path) -> None:
    comparison = read_comparison(result / "comparison.json")
    if result.name not in COST_RUNS:  # which are tables of other pages
        assert format_comparison(comparison) in (result / "report.md").read_text()
    for name in ("config.json", "environment.json"):
        assert json.loads((result / name).read_text())


def test_fronts_are_drawn_from_their_results() -> None:
    fronts = sorted(FIGURE.parent.glob("*/front.json"))
    assert fronts
    for file in fronts:
        front = json.loads(file.read_text())
        assert format_front(front, "front.svg") in (file.parent / "report.md").read_text()
        assert (file.parent / "front.svg").read_text() == front_figure({front["data_set"]: front})
    assert FIGURE.read_text() == figure()


def test_reports_on_speed_are_rendered_from_their_results() -> None:
    for name, render in (
        ("preparation", format_results),
        ("reader", format_reader),
        ("checkpoint", format_checkpoint),
    ):
        directory = ROOT / "docs/results" / name
        files = sorted(directory.glob("results*.json"))
        assert files
        for file in files:
            assert render(json.loads(file.read_text())) in (directory / "report.md").read_text()


def test_benchmarks_are_rendered_from_their_results() -> None:
    now = sorted((ROOT / "docs/results/performance").glob("*.json"))
    assert {file.stem.split("-")[0] for file in now} == set(BENCHMARKS)
    for file in now:
        results = json.loads(file.read_text())
        assert file.with_suffix(".md").read_text() == format_benchmark(file), file.name
        assert results["environment"]["versions"]
        assert not Path(results["case"].get("data", "")).is_absolute()
    growth = json.loads((ROOT / "docs/results/performance/growth.json").read_text())
    assert (ROOT / "docs/results/performance/growth.html").read_text() == growth_page(growth)


def test_the_report_on_theory_is_rendered_from_its_results() -> None:
    directory = ROOT / "docs/results/theory"
    results = json.loads((directory / "results.json").read_text())
    report = (directory / "report.md").read_text()
    assert format_theory(results) in report
    environments = json.loads((directory / "environment.json").read_text())
    assert environments.keys() == {study["data"] for study in results["studies"]}
    rows = re.findall(
        r"^\| (?:dense part|tables|both|[0-9]+) .*$", (ROOT / "docs/theory.md").read_text(), flags=re.MULTILINE
    )
    assert len(rows) >= 3
    assert [row for row in rows if row not in report] == []


def test_the_tests_that_theory_names_are_there() -> None:
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs/theory.md").read_text())
    there = (ROOT / "tests/balancing/test_theory.py").read_text()
    assert len(named) >= 5
    assert [name for name in named if f"def {name}(" not in there] == []


def test_the_figures_on_preparation_are_those_of_the_results() -> None:
    contestants = json.loads((ROOT / "docs/results/preparation/results.json").read_text())["contestants"]
    text = (ROOT / "docs/preparation.md").read_text()
    for name in ("hash", "vocabulary", "pandas"):
        over = contestants[name]["over"]
        ratios = f"{over['read_inferred']['median']:.2f} | {over['torchrec']['median']:.1f}"
        memory = f"{contestants[name]['peak_rss_mib']['median']:.0f} MiB" if name != "pandas" else ""
        assert re.search(rf"^\| {name}.*\| {re.escape(ratios)} \| {memory}", text, flags=re.MULTILINE), name
    for ids in ("hash", "vocabulary"):
        times = contestants[f"{ids}_2_workers"]["over"][ids]["median"]
        assert f"Two workers are {times:.1f} times as fast as one" in text


MARKED_TABLES = [(path, table[2], table[3]) for path in DOCUMENTS for table in MARKED.finditer(path.read_text())]


@pytest.mark.parametrize(("document", "name", "text"), MARKED_TABLES, ids=[table[1] for table in MARKED_TABLES])
def test_marked_tables_are_those_of_the_results(document: Path, name: str, text: str) -> None:
    assert text == tables()[name](), f"python -m tests.result_tables makes the tables of {document.name} anew"


def test_every_table_of_results_is_in_a_document() -> None:
    assert sorted({name for _, name, _ in MARKED_TABLES}) == sorted(tables())


def test_rows_with_intervals_are_made_from_results() -> None:
    """Tables with intervals are all marked."""
    rows = {
        document.name: re.findall(
            r"^\|.*\[[+-][0-9.]+, [+-][0-9.]+\].*$", MARKED.sub("", document.read_text()), re.MULTILINE
        )
        for document in DOCUMENTS
        if ROOT / "docs/results" not in document.parents
    }
    assert [name for name, found in rows.items() if found] == []


@pytest.mark.parametrize(
    "document", ["README.md", "docs/choosing.md", "docs/control.md", "docs/experts.md", "docs/experiments.md"]
)
def test_measured_numbers_in_sentences_are_in_a_report(document: str) -> None:
    measured = "\n".join(path.read_text() for path in sorted(ROOT.glob("docs/results/**/*.md")))
    measured += "\n".join(render() for render in tables().values())
    text = re.sub(r"^```.*?^```$", "", MARKED.sub("", (ROOT / document).read_text()), flags=re.MULTILINE | re.DOTALL)
    assert [number for number in re.findall(r"[-+]?\b0\.\d{3,}\b", text) if number not in measured] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^):]+)\)", document.read_text()):
        file, _, anchor = target.partition("#")
        page = document.parent / file if file else document
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), target


@pytest.mark.parametrize("document", sorted(ROOT.glob("docs/launching/*.md")), ids=lambda path: path.stem)
def test_every_launching_command_is_run(document: Path) -> None:
    sources = "".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    sources += (ROOT / "tests/slurm/conftest.py").read_text()
    starts = re.findall(rf'command\(\s*"{document.stem}",\s*f?"([^"{{]+)', sources)
    # tests/launching/test_slurm.py compares each with the dry run beside it.
    starts += ["torchx run -s slurm"] if document.stem == "slurm" else []
    assert [line for line in commands(document) if not line.startswith(tuple(starts))] == []
