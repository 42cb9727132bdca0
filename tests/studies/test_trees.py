"""LightGBM beside the arms of a comparison, from its options to its files."""

import json
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.metrics.estimates_file import read_estimates
from tests.datasets import make_dataset
from tests.entry_points.processes import complaint, python
from tests.messages import mentions

pytest.importorskip("lightgbm", reason="needs LightGBM, which the extra trees brings")

SMALL = ("--model.embedding-dim", "4", "--model.bottom-mlp", "8", "--model.head-mlp", "8", "--batch-size", "256")
TREES = (
    "--rates",
    "earlier",
    "--parts",
    "4",
    "--learning-rate",
    "0.1",
    "--max-trees",
    "20",
    "--min-data-in-leaf",
    "20",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("trees") / "data", rows=4096, eval_rows=1000, with_context=True)


@pytest.fixture(scope="module")
def comparison(data: Path) -> Path:
    out = data.parent / "comparison"
    options = ("--data", data, "--out", out, "--seeds", "2", "--arms", "mean", "sum", *SMALL)
    process = python("dlrm_mtl.compare", *options)
    assert process.returncode == 0, process.stderr
    return out


@pytest.fixture(scope="module")
def trees(data: Path, comparison: Path) -> Path:
    out = data.parent / "trees"
    process = python(
        "dlrm_mtl.experiments",
        "trees",
        "--data",
        data,
        "--beside",
        comparison,
        "--out",
        out,
        "--categories",
        "40",
        *TREES,
    )
    assert process.returncode == 0, process.stderr
    return out


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def test_the_comparison_has_one_arm_more_with_intervals_for_other_rows(trees: Path, comparison: Path) -> None:
    before, after = read(comparison / "comparison.json"), read(trees / "comparison.json")
    assert list(after["arms"]) == ["mean", "sum", "lightgbm"]
    assert after["control"] == "mean"
    for task, values in after["arms"]["mean"]["tasks"].items():
        assert values["ne"] == before["arms"]["mean"]["tasks"][task]["ne"]
    for task, values in after["arms"]["lightgbm"]["tasks"].items():
        gain = values["ne_gain_percent"]
        control = after["arms"]["mean"]["tasks"][task]["ne"]
        assert gain["mean"] == pytest.approx(100 * (control - values["ne"]))
        assert gain["covers"] == "seeds and rows"
        assert gain["low"] < gain["mean"] < gain["high"]
    # A signal in ids that the ranker has not learnt in 16 steps.
    assert after["arms"]["lightgbm"]["tasks"]["click"]["ne"] < 0.97


def test_seeds_differ_and_their_files_have_every_arm(trees: Path) -> None:
    reached = []
    for seed in (0, 1):
        summary = read(trees / f"seed-{seed}.json")
        assert list(summary["arms"]) == list(read_estimates(trees / f"seed-{seed}.npz")) == ["mean", "sum", "lightgbm"]
        reached.append(summary["arms"]["lightgbm"]["tasks"]["click"]["ne"])
    assert reached[0] != reached[1]


def test_the_record_states_features_trees_time_and_memory(trees: Path) -> None:
    record = read(trees / "trees.json")
    assert record["features"]["rates"] == ["user"]
    assert record["features"]["categories"] == ["item"]
    assert record["seeds"].keys() == {"0", "1"}
    for seed in record["seeds"].values():
        assert seed["training_s"] > 0
        assert all(1 <= trees <= 20 for trees in seed["trees"].values())
    assert record["peak_memory_mib"] > 0
    assert record["columns"] == 1 + 2 * 21 - (20 - 7) + 2 + 4


def test_another_data_set_is_refused(comparison: Path, small_dataset: Path, tmp_path: Path) -> None:
    process = python(
        "dlrm_mtl.experiments", "trees", "--data", small_dataset, "--beside", comparison, "--out", tmp_path / "out"
    )
    assert mentions(complaint(process), "clusters", "visitor")
    assert not (tmp_path / "out").exists()


def test_a_regression_task_is_refused_by_name(data: Path, comparison: Path, tmp_path: Path) -> None:
    schema = read(data / "schema.json")
    schema["tasks"][1] |= {"kind": "regression", "base_rate": None}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    process = python(
        "dlrm_mtl.experiments", "trees", "--data", tmp_path, "--beside", comparison, "--out", tmp_path / "out"
    )
    assert mentions(complaint(process), "like", "regression")
