"""The comparison of ways to prepare Criteo logs, with few rows, and bad options."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_prep import bench
from data_prep.bench import Contestant, Options, generated_log, measure
from data_prep.benchmark.ratios import BASES, TITLES, format_results, summarize
from tests.messages import mentions, naming

ENVIRONMENT = {"time": "t", "python": "3", "versions": {"a": "1"}, "cpus": 2, "processor": "p", "command": ["bench"]}


def test_a_tiny_comparison(tmp_path: Path) -> None:
    options = ["--rows", "1000", "--torchrec-rows", "500", "--pandas-rows", "1000", "--rounds", "1"]
    paths = ["--out", str(tmp_path / "bench"), "--json", str(tmp_path / "results.json")]
    process = subprocess.run(
        [sys.executable, "-m", "data_prep.bench", *options, *paths],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert format_results(results) in process.stdout
    assert results["contestants"].keys() - {"pandas"} == TITLES.keys() - {"pandas"}
    for contestant in results["contestants"].values():
        assert contestant["rows_per_second"]["median"] > 0
        assert 10 < contestant["peak_rss_mib"]["median"] < 10_000
    assert results["contestants"]["torchrec"]["rows"] == 500
    assert results["contestants"]["hash_2_workers"]["workers"] == 2
    logs = {"criteo-1000.json", "criteo-1000.tsv", "criteo-500.json", "criteo-500.tsv"}
    assert {path.name for path in (tmp_path / "bench").iterdir()} == logs


def test_ratios_are_those_of_a_round() -> None:
    seconds = {"read_inferred": [1.0, 2.0, 4.0], "read_typed": [1.0, 1.0, 1.0], "torchrec": [10.0, 10.0, 10.0]}
    seconds |= {"hash": [4.0, 4.0, 4.0], "hash_2_workers": [2.0, 4.0, 2.0]}
    seconds |= {"vocabulary": [8.0, 8.0, 8.0], "vocabulary_2_workers": [4.0, 4.0, 4.0]}
    turns = {name: [{"seconds": s, "peak_rss_mib": 100.0 * s} for s in turn] for name, turn in seconds.items()}
    contestants = {name: (100 if name == "torchrec" else 1000, 2 if "_2_" in name else 1) for name in seconds}
    results = summarize(contestants, turns)
    assert results["hash"]["rows_per_second"]["median"] == 250
    assert results["hash"]["peak_rss_mib"]["median"] == 400
    over = results["hash"]["over"]["read_inferred"]
    assert over == {"median": 0.5, "min": 0.25, "max": 1.0, "rounds": [0.25, 0.5, 1.0]}
    assert results["hash"]["over"]["torchrec"]["median"] == 25
    assert results["hash_2_workers"]["rows_per_second_per_worker"]["median"] == 250
    assert results["hash_2_workers"]["over"]["hash"]["rounds"] == [2, 1, 2]
    assert results["read_typed"]["over"].keys() == {*BASES} - {"read_typed"}
    table = format_results({"contestants": results, "environment": ENVIRONMENT})
    assert mentions(table, "pandas", "not installed")
    assert mentions(table, "hash 2.00 (1.00 .. 2.00)", "vocabulary 2.00 (2.00 .. 2.00)")


def test_a_log_is_generated_once(tmp_path: Path) -> None:
    log = generated_log(tmp_path, 10)
    written = log.stat().st_mtime_ns
    assert generated_log(tmp_path, 10).stat().st_mtime_ns == written
    log.write_bytes(log.read_bytes()[:-5])
    assert len(generated_log(tmp_path, 10).read_bytes().splitlines()) == 10
    assert log.stat().st_mtime_ns > written


def test_a_contestant_that_fails_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log.tsv"
    log.write_text("no log\n")
    with pytest.raises(ValueError, match=naming("read_typed", 1, "ArrowInvalid")):
        measure(Contestant("read_typed", log, 1), tmp_path)
    assert list(tmp_path.iterdir()) == [log]


def test_lost_rows_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=naming("read_inferred", 10, 11)):
        measure(Contestant("read_inferred", generated_log(tmp_path, 10), 11), tmp_path)


@pytest.mark.parametrize("name", ["rows", "torchrec_rows", "pandas_rows", "rounds"])
def test_bad_options(tmp_path: Path, name: str) -> None:
    values: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=naming(name, 0, 1)):
        bench.run(Options(tmp_path, **values))
    with pytest.raises(ValueError, match="existing directory"):
        bench.run(Options(tmp_path, json=tmp_path / "none" / "results.json"))
