"""The benchmarks that need no data set, from the command line to their results."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchjd.aggregation

from dlrm_mtl.benchmarks.growth.growth import format_growth
from dlrm_mtl.benchmarks.layer import Point, format_layer
from dlrm_mtl.benchmarks.peers import experts, peers
from dlrm_mtl.benchmarks.peers.peer import TOLERANCE, Peer, relative_difference
from dlrm_mtl.benchmarks.synthetic_cases import ExpertsCase, PeersCase, WatchCase
from dlrm_mtl.benchmarks.watch import format_watch, measure_watch
from dlrm_mtl.benchmarks.windows import Spread
from tests.entry_points.processes import complaint, python

BENCH = "dlrm_mtl.bench"
SHORT = ["--windows", "2", "--seconds", "0.01"]
SMALL_PEERS = PeersCase(batch_size=32, width=16, layers=2, head=8)


def results_of(case: str, file: Path, *options: str) -> dict[str, Any]:
    process = python(BENCH, case, *SHORT, *options, "--json", file)
    assert process.returncode == 0, process.stderr
    results: dict[str, Any] = json.loads(file.read_text())
    assert results["environment"]["versions"]["torch"].startswith("2.13")
    assert file.with_suffix(".md").read_text() in process.stdout
    return results


def test_the_layer_over_a_grid(tmp_path: Path) -> None:
    grid = ["--tasks", "2", "3", "--dims", "8", "64", "--batch-sizes", "32", "--max-elements", "1000"]
    results = results_of("layer", tmp_path / "layer.json", *grid)
    points = results["points"]
    assert [(point["tasks"], point["dim"], point["dtype"]) for point in points] == [
        (tasks, 8, dtype) for tasks in (2, 3) for dtype in ("float32", "bfloat16")
    ]
    assert {point["dim"] for point in results["left_out"]} == {64}
    assert len(results["left_out"]) == 4
    for point in points:
        layer, plain, memory = (
            Spread(**point[name]) for name in ("layer_seconds", "plain_seconds", "bytes_per_second")
        )
        assert Spread(**point["layer_over_plain"]) == layer.over(plain)
        limit = [point["layer_bytes"] / rate for rate in memory.windows]
        assert Spread(**point["layer_over_limit"]).windows == pytest.approx(
            [mine / best for mine, best in zip(layer.windows, limit, strict=True)]
        )
    assert format_layer(results).count("Left out") == 4


@pytest.mark.parametrize("tasks", [1, 2, 3, 8])
def test_bytes_of_the_layer_are_those_of_its_passes(tasks: int) -> None:
    point = Point(tasks, batch_size=4, dim=8, dtype="bfloat16")
    one = torch.zeros(4, 8, dtype=torch.bfloat16).nbytes
    assert point.layer_bytes == sum([one for _ in range(tasks)] * 2) + one
    assert point.plain_bytes == sum(3 * one for _ in range(tasks - 1))


@pytest.mark.parametrize(
    ("case", "model", "differences"),
    [("peers", ["--layers", "2"], 3), ("experts", ["--experts", "3", "--expert-mlp", "8", "6"], 2)],
)
def test_peers_run_on_all(tmp_path: Path, case: str, model: list[str], differences: int) -> None:
    model = ["--batch-size", "32", "--width", "16", "--head", "8", *model]
    results = results_of(case, tmp_path / "results.json", *model, "--tasks", "2")
    [size] = results["sizes"]
    assert len(size["gradient_difference"]) == differences
    assert max(size["gradient_difference"].values()) < TOLERANCE
    rates = {name: Spread(**rate) for name, rate in size["samples_per_second"].items()}
    assert len(rates) == 5
    for base, over in size["time_over"].items():
        assert {name: Spread(**spread) for name, spread in over.items()} == {
            name: rates[base].over(rate) for name, rate in rates.items()
        }


@pytest.mark.parametrize("num_tasks", [1, 3, 8])
def test_gradients_agree_under_the_same_weights_alone(num_tasks: int) -> None:
    assert max(peers.compare_gradients(SMALL_PEERS, num_tasks).values()) < TOLERANCE
    ours = peers.Layered(SMALL_PEERS, num_tasks, "multibalance").gradients()
    weights = torchjd.aggregation.Constant(torch.arange(1.0, num_tasks + 1) / 7)
    others: list[Peer] = [peers.JacobianDescent(SMALL_PEERS, num_tasks, weights)]
    if num_tasks > 1:
        others += [peers.ByHand(SMALL_PEERS, num_tasks), peers.PlainSum(SMALL_PEERS, num_tasks)]
    for other in others:
        assert relative_difference(other.gradients(), ours) > 10 * TOLERANCE


@pytest.mark.parametrize("num_tasks", [1, 3, 8])
def test_gradients_of_experts_agree_under_the_same_weights_alone(num_tasks: int) -> None:
    case = ExpertsCase(batch_size=32, width=16, experts=3, expert_mlp=(8, 6), head=8)
    assert max(experts.compare_gradients(case, num_tasks).values()) < TOLERANCE
    if num_tasks > 1:
        ours = experts.Layered(case, num_tasks, "multibalance").gradients()
        assert relative_difference(experts.PlainSum(case, num_tasks).gradients(), ours) > 10 * TOLERANCE


def test_growth_of_tasks_and_ranks(tmp_path: Path) -> None:
    base = ["--base-batch", "64", "--base-tables", "2", "--table-rows", "100"]
    file = tmp_path / "growth.json"
    results = results_of("growth", file, *base, "--axes", "tasks", "ranks", "--tasks", "2", "--ranks", "2")
    points = results["points"]
    assert [(point["axis"], point["value"]) for point in points] == [("base", None), ("tasks", 2), ("ranks", 2)]
    assert [point["size"]["tasks"] for point in points] == [3, 2, 3]
    for point in points:
        control, balanced = (Spread(**rate) for rate in point["steps_per_second"].values())
        assert Spread(**point["balancing"]) == control.over(balanced)
    limits = results["limits"]
    # Forward and backward of the bottom's first layer, 8 dense features to 64, which needs no gradient of its input.
    assert limits["dense_flops"] > 2 * 2 * 64 * 8 * 64
    assert limits["seconds"] == limits["dense_seconds"] + limits["table_seconds"]
    assert limits["table_bytes"] == 4 * (64 * 2 * (3 * 16 + 2) + 64 * 2 * 2 * 16)
    page = file.with_suffix(".html").read_text()
    assert page.count("<svg") == 2
    assert "tasks = 2" in format_growth(results)


def test_the_watch_over_ranks_that_another_process_plays() -> None:
    results = measure_watch(WatchCase(windows=2, seconds=0.1, ranks=8))
    assert len(results["core_percent"]["windows"]) == 2
    assert 0 <= results["core_percent"]["median"] < 100
    assert "| 8 ranks |" in format_watch(results)


@pytest.mark.parametrize(
    ("case", "options", "message"),
    [
        ("layer", ["--tasks", "0"], "tasks is (0,)"),
        ("layer", ["--max-elements", "10"], "max_elements is 10"),
        ("peers", ["--width", "0"], "width is 0"),
        ("growth", ["--dim", "6"], "dim is (6,)"),
        ("watch", ["--ranks", "1"], "ranks is 1"),
        ("layer", ["--json", "layer.txt"], "json is 'layer.txt'"),
    ],
)
def test_a_bad_option_is_named(case: str, options: list[str], message: str) -> None:
    process = python(BENCH, case, *options)
    assert process.returncode == 2
    assert message in process.stderr
    assert "Traceback" not in process.stderr


def test_an_unknown_method_is_named() -> None:
    assert "nothing_like_it" in complaint(python(BENCH, "layer", "--method", "nothing_like_it"))
