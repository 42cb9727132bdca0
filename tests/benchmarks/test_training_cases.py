"""The benchmarks that train on a data set, from the command line to their results."""

import json
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.benchmarks.windows import Spread
from tests.entry_points.processes import complaint, python
from tests.messages import mentions

BENCH = "dlrm_mtl.bench"
SMALL = ["--batch-size", "64", "--windows", "2"]
SHORT = [*SMALL, "--seconds", "0.05"]


def results_of(case: str, data: Path, file: Path, *options: str, processes: int = 0) -> dict[str, Any]:
    process = python(BENCH, case, "--data", data, *options, "--json", file, processes=processes)
    assert process.returncode == 0, process.stderr
    assert file.with_suffix(".md").read_text() in process.stdout
    results: dict[str, Any] = json.loads(file.read_text())
    return results


def test_methods_against_the_first(small_dataset: Path, tmp_path: Path) -> None:
    arms = ["mean", "multibalance", "mgda"]
    options = [*SMALL, "--steps", "3", "--arms", *arms]
    results = results_of("methods", small_dataset, tmp_path / "methods.json", *options)
    qps = {arm: Spread(**spread) for arm, spread in results["qps"].items()}
    assert list(qps) == arms
    for arm, over in results["step_over_control"].items():
        assert Spread(**over) == qps["mean"].over(qps[arm])
    # Every id is read, and the bags of four features are written.
    assert results["limits"]["table_bytes"] > 4 * 64 * 4 * 2 * 16
    assert results["limits"]["dense_seconds"] > 0


def test_architectures_against_the_first(small_dataset: Path, tmp_path: Path) -> None:
    names = ["bottom", "stem:expert_mlp=8"]
    options = [*SMALL, "--steps", "2", "--arms", "mean", "mgda", "--architectures", *names]
    results = results_of("architectures", small_dataset, tmp_path / "architectures.json", *options)["architectures"]
    assert list(results) == names
    qps = {(name, arm): Spread(**results[name]["arms"][arm]["qps"]) for name in names for arm in ("mean", "mgda")}
    for (name, arm), rate in qps.items():
        measured = results[name]["arms"][arm]
        assert Spread(**measured["step_over_control"]) == qps[name, "mean"].over(rate)
        assert Spread(**measured["step_over_first"]) == qps["bottom", "mean"].over(rate)
    bottom, stem = results.values()
    # Three tasks own tables beside the shared ones.
    assert stem["parameters"]["tables"] == 4 * bottom["parameters"]["tables"]
    assert stem["activation_bytes"] > bottom["activation_bytes"] > 64 * 128 * 4


def test_loops_of_two_ranks(small_dataset: Path, tmp_path: Path) -> None:
    results = results_of("loop", small_dataset, tmp_path / "loop.json", *SHORT, processes=2)
    assert results["environment"]["world_size"] == 2
    rates = {name: Spread(**rate) for name, rate in results["samples_per_second"].items()}
    assert list(rates) == [
        *("plain TorchRec loop", "plain TorchRec loop, on own CPUs", "structure of torchrec_dlrm"),
        *("this project, mean", "this project, multibalance"),
    ]
    for name, over in results["over_plain"].items():
        assert Spread(**over) == rates[name].over(rates["plain TorchRec loop"])


def test_an_arm_in_turns_against_the_same_alone(small_dataset: Path, tmp_path: Path) -> None:
    results = results_of("overhead", small_dataset, tmp_path / "overhead.json", *SHORT)
    alone, in_turns = (Spread(**rate) for rate in results["samples_per_second"].values())
    assert Spread(**results["time_over_alone"]) == alone.over(in_turns)


def test_the_parts_of_a_step_add_up(small_dataset: Path, tmp_path: Path) -> None:
    options = ["--batch-size", "64", "--windows", "1", "--arms", "mean", "multibalance"]
    results = results_of("profile", small_dataset, tmp_path / "profile.json", *options, processes=2)
    assert list(results["seconds_per_step"]) == ["plain TorchRec loop", "mean", "multibalance"]
    for name, parts in results["seconds_per_step"].items():
        windows = {part: spread["windows"] for part, spread in parts.items()}
        for total, *others in zip(*windows.values(), strict=True):
            assert sum(others) == pytest.approx(total, rel=1e-6)
        for part in ("reading", "collectives, with waiting", "tables", "matrix products", "optimizer and guard"):
            assert all(seconds > 0 for seconds in windows[part]), part
        balanced = windows["balancing layer, with waiting"]
        assert all(seconds > 0 for seconds in balanced) if name != "plain TorchRec loop" else not any(balanced)


def test_too_few_rows_for_a_rank_of_a_plain_loop(small_dataset: Path) -> None:
    """600 rows are a global batch, but of ten row groups of 64 rows the last one has 24."""
    process = python(BENCH, "loop", "--data", small_dataset, "--batch-size", "600", processes=2)
    assert mentions(process.stderr, 280, 300)
    assert process.returncode != 0


def test_an_unknown_arm_is_named(small_dataset: Path) -> None:
    process = python(BENCH, "methods", "--data", small_dataset, *SMALL, "--arms", "mean", "nothing_like_it")
    assert "nothing_like_it" in complaint(process)
