"""The benchmark, from the command line to its results."""

import json
import sys
from pathlib import Path

import pytest

from dlrm_mtl.benchmarks.windows import Spread
from tests.entry_points.processes import complaint, python, run
from tests.messages import mentions

BENCH = "dlrm_mtl.bench"
SMALL = ["--batch-size", "64", "--windows", "3", "--seconds", "0.05"]
STEPS = ["step, mean", "step, multibalance"]


def test_the_reader_against_the_step(small_dataset: Path, tmp_path: Path) -> None:
    file = tmp_path / "reader.json"
    process = python(BENCH, "reader", "--data", small_dataset, *SMALL, "--json", file)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    results = json.loads(file.read_text())
    assert results.keys() == {
        "case", "environment", "samples_per_second", "reader_over", "reader_over_fastest_step", "wanted"
    }  # fmt: skip
    assert results["case"] == {
        "data": str(small_dataset), "batch_size": 64, "windows": 3, "seconds": 0.05, "json": str(file)
    }  # fmt: skip
    environment = results["environment"]
    assert environment["command"][:4] == ["bench.py", "reader", "--data", str(small_dataset)]
    assert environment["versions"]["torch"].startswith("2.13")
    assert (environment["world_size"], environment["threads_per_rank"]) == (1, "1")

    rates = {name: Spread(**rate) for name, rate in results["samples_per_second"].items()}
    assert list(rates) == ["reader", *STEPS, "training, multibalance"]
    for name, rate in rates.items():
        assert len(rate.windows) == 3
        assert 0 < rate.p10 <= rate.median <= rate.p90
        assert f"\n{name} " in process.stdout
        if name != "reader":
            assert Spread(**results["reader_over"][name]) == rates["reader"].over(rate)
    assert results["reader_over_fastest_step"] == min(results["reader_over"][step]["median"] for step in STEPS)
    assert mentions(process.stdout, "reader", f"{results['reader_over_fastest_step']:.2f}")


def test_the_table_is_aligned(small_dataset: Path) -> None:
    process = python(BENCH, "reader", "--data", small_dataset, *SMALL)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    [header] = [position for position, line in enumerate(lines) if line.startswith("samples/s")]
    ends = {
        tuple(line.index(cell) + len(cell) for cell in line[24:].split()[:3]) for line in lines[header : header + 5]
    }
    assert len(ends) == 1


def test_no_data(tmp_path: Path) -> None:
    assert "schema.json" in complaint(python(BENCH, "reader", "--data", tmp_path))


def test_too_little_data(small_dataset: Path) -> None:
    process = python(BENCH, "reader", "--data", small_dataset, "--batch-size", "1000")
    assert mentions(complaint(process), 600, 1000)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--batch-size", "0", "batch_size is 0"),
        ("--windows", "0", "windows is 0"),
        ("--seconds", "nan", "seconds is nan"),
        ("--json", "nowhere/reader.json", "json is 'nowhere/reader.json'"),
    ],
)
def test_a_bad_option_is_named(small_dataset: Path, option: str, value: str, message: str) -> None:
    process = python(BENCH, "reader", "--data", small_dataset, option, value)
    assert process.returncode == 2
    assert message in process.stderr
    assert "Traceback" not in process.stderr


def test_one_process_alone(small_dataset: Path) -> None:
    process = python(BENCH, "reader", "--data", small_dataset, *SMALL, processes=2)
    assert process.returncode != 0
    assert sum(mentions(line, "bench", "processes", 2, 1) for line in process.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["writer"]])
def test_an_unknown_case_lists_those_there_are(arguments: list[str]) -> None:
    process = python(BENCH, *arguments)
    assert process.returncode == 2
    assert "reader" in process.stderr
    assert "Traceback" not in process.stderr


def test_options_are_read_without_torch() -> None:
    modules = "import dlrm_mtl.bench, dlrm_mtl.benchmarks.windows, sys"
    process = run(sys.executable, "-c", f"{modules}; print('torch' in sys.modules)")
    assert (process.stdout, process.returncode) == ("False\n", 0)
