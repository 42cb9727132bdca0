"""The benchmark of serving, from the command line to its results."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from dlrm_mtl.benchmarks.serving import COMPILED_INT8, EAGER, LINEAR, format_serving
from dlrm_mtl.benchmarks.windows import Spread
from tests.entry_points.processes import complaint, python
from tests.messages import mentions

BENCH = "dlrm_mtl.bench"


@pytest.fixture(scope="module")
def run(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    options = ["--max-steps", "1", "--batch-size", "100", "--model.head-mlp", "4", "--model.bottom-mlp", "4"]
    assert python("dlrm_mtl.train", "--data", small_dataset, "--out", out, *options).returncode == 0
    return out


def test_exports_against_eager_where_no_compiler_is_there(
    small_dataset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    options: list[str | Path] = [
        "--batch-sizes",
        "1",
        "16",
        "--windows",
        "2",
        "--seconds",
        "0.02",
        "--json",
        tmp_path / "serving.json",
    ]
    process = python(BENCH, "serving", "--checkpoint", run, "--data", small_dataset, *options)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "serving.json").read_text())
    assert list(results["bytes"]) == [EAGER, LINEAR, "float, exported", "int8, exported"]
    assert results["bytes"]["int8, exported"] != results["bytes"]["float, exported"] > results["bytes"][EAGER]
    assert list(results["batches"]) == ["1", "16"]
    for forms in results["batches"].values():
        eager = Spread(**forms[EAGER]["rows_per_second"])
        for measured in forms.values():
            rates = Spread(**measured["rows_per_second"])
            assert Spread(**measured["over_eager"]) == rates.over(eager)
            assert 0 < measured["latency_ms"]["p50"] <= measured["latency_ms"]["p90"] <= measured["latency_ms"]["p99"]
    assert "CXX" in results["not_compiled"]
    assert mentions(process.stdout, "Not compiled", results["not_compiled"])


def test_the_claim_is_shown() -> None:
    measured = {
        "rows_per_second": asdict(Spread.of([900.0])),
        "over_eager": asdict(Spread.of([1.75])),
        "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 3.0},
    }
    results = {"bytes": {COMPILED_INT8: 1 << 20}, "batches": {"512": {COMPILED_INT8: measured}}, "wanted": 2.0}
    *_, claim = format_serving({**results, "not_compiled": None}).splitlines()
    assert mentions(claim, 512, "1.75 (1 window)", "wanted: 2")


def test_more_rows_than_there_are(small_dataset: Path, run: Path) -> None:
    process = python(BENCH, "serving", "--checkpoint", run, "--data", small_dataset, "--batch-sizes", "1", "201")
    assert mentions(complaint(process), "batch_sizes", 201, 200)
