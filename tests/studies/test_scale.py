"""The simulation of clusters, against times computed by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dlrm_mtl.studies.interconnect import Interconnect
from dlrm_mtl.studies.scale import MODES, measure_scale, phases, simulate, traffic
from dlrm_mtl.studies.scale_case import ScaleCase
from tests.entry_points.processes import python

STEADY = ScaleCase(gpus=(16,), jitter=0.0, steps=3)


def test_collectives_by_hand() -> None:
    case = ScaleCase(host_gb_s=100, network_gb_s=10, host_latency_us=1, network_latency_us=5, peer_overhead_us=0.5)
    two_hosts = Interconnect(case, 16)
    # 1.6 MB: half of it leaves the host; 7 of 16 parts go to the neighbours, which is quicker.
    assert two_hosts.all_to_all(1.6e6) == pytest.approx(0.8e6 / 10e9 + 5e-6 + 15 * 0.5e-6)
    # Seven eighths of 1.6 MB twice inside; 0.2 MB per GPU, half of it twice, outside; 3 hops inside, 1 outside, twice.
    assert two_hosts.all_reduce(1.6e6) == pytest.approx(2.8e6 / 100e9 + 0.2e6 / 10e9 + 2 * (3e-6 + 5e-6))
    one_host = Interconnect(case, 4)
    assert one_host.all_to_all(1.6e6) == pytest.approx(1.2e6 / 100e9 + 1e-6 + 3 * 0.5e-6)
    assert Interconnect(case, 1).all_reduce(1e9) == Interconnect(case, 1).all_to_all(1e9) == 0


def test_traffic_by_hand() -> None:
    sizes = traffic(ScaleCase(batch_per_gpu=10, lookups=3, embedding_columns=7, tasks=2, shared_parameters=5))
    assert (sizes.ids, sizes.embeddings, sizes.balancing) == (120, 280, 32)
    assert sizes.dense == 4 * (5 + 2 * 5_000_000)


def test_without_jitter_exact_adds_the_small_all_reduce_to_the_layers_own_work() -> None:
    links = Interconnect(STEADY, 16)
    control = simulate(links, None)
    own = phases(STEADY).balancing
    assert simulate(links, "local") - control == pytest.approx(own)
    assert simulate(links, "delayed") - control == pytest.approx(own)
    assert simulate(links, "exact, own group") - control == pytest.approx(own + links.all_reduce(72))
    assert simulate(links, "exact") >= simulate(links, "exact, own group")


def test_jitter_makes_exact_wait_and_the_others_not() -> None:
    noisy = Interconnect(replace(STEADY, jitter=0.1, steps=50), 16)
    control = simulate(noisy, None)
    assert control > simulate(Interconnect(STEADY, 16), None)
    waiting = simulate(noisy, "exact, own group") - simulate(noisy, "local") - noisy.all_reduce(72)
    assert waiting > 1e-5
    assert simulate(noisy, "local") - control == pytest.approx(phases(STEADY).balancing)


def test_more_tasks_than_four_make_the_layer_cheaper_than_the_sum() -> None:
    free = replace(STEADY, launch_us=0.0)
    assert phases(replace(free, tasks=3)).balancing > 0
    assert phases(replace(free, tasks=4)).balancing == 0
    assert phases(replace(free, tasks=8)).balancing < 0


def test_every_number_of_gpus_is_reported(tmp_path: Path) -> None:
    out = tmp_path / "scale.json"
    process = python("dlrm_mtl.experiments", "scale", "--gpus", "1", "16", "--steps", "5", "--json", str(out))
    assert process.returncode == 0, process.stderr
    study = json.loads(out.read_text())
    assert [cluster["gpus"] for cluster in study["clusters"]] == [1, 16]
    assert all(set(cluster["added_us"]) == set(MODES) for cluster in study["clusters"])
    assert "| 16 |" in process.stdout
    assert study["clusters"] == measure_scale(ScaleCase(gpus=(1, 16), steps=5))["clusters"]


@pytest.mark.parametrize("options", [("--gpus", "12"), ("--tasks", "0"), ("--network-gb-s", "0"), ("--jitter", "-1")])
def test_wrong_options_are_named(options: tuple[str, ...]) -> None:
    process = python("dlrm_mtl.experiments", "scale", *options)
    assert process.returncode == 2
    assert f"{options[0].removeprefix('--').replace('-', '_')} is" in process.stderr
