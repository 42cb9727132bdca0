"""Tables in the documents made from committed results of benchmarks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlrm_mtl.benchmarks.architectures import format_architectures
from dlrm_mtl.benchmarks.growth.growth import format_growth
from dlrm_mtl.benchmarks.layer import format_layer
from dlrm_mtl.benchmarks.loops.loop import format_loop
from dlrm_mtl.benchmarks.markdown import INTERVAL, cell, markdown_table, with_interval
from dlrm_mtl.benchmarks.methods import format_methods
from dlrm_mtl.benchmarks.overhead import format_overhead
from dlrm_mtl.benchmarks.peers.experts import format_experts
from dlrm_mtl.benchmarks.peers.peers import format_peers
from dlrm_mtl.benchmarks.profile import format_profile
from dlrm_mtl.benchmarks.serving import format_serving
from dlrm_mtl.benchmarks.watch import format_watch
from dlrm_mtl.files import read_json
from dlrm_mtl.units import mib
from tests.pages import ROOT

RESULTS = ROOT / "docs" / "results"
PERFORMANCE = RESULTS / "performance"
BENCHMARKS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "architectures": format_architectures,
    "experts": format_experts,
    "growth": format_growth,
    "layer": format_layer,
    "loop": format_loop,
    "methods": format_methods,
    "modes": format_methods,
    "overall": format_methods,
    "overhead": format_overhead,
    "peers": format_peers,
    "profile": format_profile,
    "serving": format_serving,
    "sharing": format_methods,
    "watch": format_watch,
}
"""Formats a benchmark's results as a table, by the prefix of the file's name."""
LAYER_SIZES = ((1024, 128), (4096, 512), (4096, 2048))
BALANCING_RUNS = {
    "3 tasks, 1 rank": "modes",
    "8 tasks, 1 rank": "modes-8-tasks",
    "3 tasks, 2 ranks": "modes-2-ranks",
}


def benchmark_tables() -> dict[str, Callable[[], str]]:
    """Every table of benchmarks, by its name in the documents' marks."""
    return {
        "watch": lambda: _benchmark("watch"),
        "loops": loops,
        "profile": lambda: _benchmark("profile"),
        "balancing": balancing,
        "balancing-now": lambda: _benchmark("overall"),
        "balancing-methods": lambda: _benchmark("methods"),
        "balancing-sharing": sharing,
        "costs-of-architectures": lambda: _benchmark("architectures"),
        "peers-experts": lambda: _benchmark("experts"),
        "serving": serving,
        "layer": layer,
        "peers": lambda: _benchmark("peers"),
        "growth": lambda: _benchmark("growth"),
        "gpu-kernels": gpu_kernels,
        "gpu-host": gpu_host,
    }


def format_benchmark(results: Path) -> str:
    """The table beside a benchmark's results."""
    return f"{BENCHMARKS[results.stem.split('-')[0]](read_json(results))}\n"


def loops() -> str:
    """Training end to end against the plain loop, in this version and before its steps were profiled."""
    rows = []
    for ranks, name in ((1, "loop"), (2, "loop-2-ranks")):
        now, before = (read_json(PERFORMANCE / f"{part}{name}.json") for part in ("", "before/"))
        for loop, rate in now["samples_per_second"].items():
            over = [
                with_interval(results["over_plain"][loop], ".3f") if loop in results["over_plain"] else ""
                for results in (before, now)
            ]
            rows.append([f"{loop}, {ranks} {'ranks' if ranks > 1 else 'rank'}", cell(rate, ",.0f"), *over])
    header = ("loop", "samples/s", f"QPS over the plain one, {INTERVAL}, before", "now")
    return f"{markdown_table(header, rows)}\n"


def balancing() -> str:
    """Cost of balancing against the control in each mode of reduction."""
    rows = []
    for title, name in BALANCING_RUNS.items():
        results = read_json(PERFORMANCE / f"{name}.json")
        control, *arms = results["qps"]
        rate = cell(results["qps"][control], ",.0f")
        rows.append([title, rate, *(with_interval(results["step_over_control"][arm], ".3f") for arm in arms)])
    header = (
        f"step time over `mean`, {INTERVAL}",
        "samples/s of `mean`",
        "`multibalance`",
        "`reduction=delayed`",
        "`reduction=local`",
    )
    return f"{markdown_table(header, rows)}\n"


def sharing() -> str:
    """Cost of balancing at the cut against the control of the same architecture."""
    rows = []
    for tasks in (3, 8):
        for name in ("mmoe", "cgc", "ple"):
            results = read_json(PERFORMANCE / f"sharing-{name}-{tasks}-tasks.json")
            ratio = with_interval(results["step_over_control"]["multibalance"], ".3f")
            rows.append([f"`{name}`, {tasks} tasks", cell(results["qps"]["mean"], ",.0f"), ratio])
    return f"{markdown_table(('model', 'samples/s of `mean`', f'`multibalance` over `mean`, {INTERVAL}'), rows)}\n"


def serving() -> str:
    """Forms of serving against eager, by batch size."""
    rows = []
    for data, name in (("synthetic", "serving"), ("KuaiRand", "serving-kuairand")):
        results = read_json(PERFORMANCE / f"{name}.json")
        sizes = [f"{size} row{'s' * (size != '1')}" for size in results["batches"]]
        rows += [
            [
                f"{form}, {data}",
                f"{mib(size):,.1f}",
                *(with_interval(of_size[form]["over_eager"]) for of_size in results["batches"].values()),
            ]
            for form, size in results["bytes"].items()
        ]
    return f"{markdown_table((f'rows/s over eager, {INTERVAL}', 'MiB', *sizes), rows)}\n"


def layer() -> str:
    """The layer's backward over the memory's limit, at some points of the grid."""
    now, before = (read_json(PERFORMANCE / f"{part}layer.json")["points"] for part in ("", "before/"))
    rows = []
    for point, earlier in zip(now, before, strict=True):
        key = [(each["tasks"], each["batch_size"], each["dim"], each["dtype"]) for each in (point, earlier)]
        assert key[0] == key[1]
        if (point["batch_size"], point["dim"]) in LAYER_SIZES:
            tasks, batch_size, dim, dtype = key[0]
            spreads = [each[name] for name in ("layer_over_limit", "layer_over_plain") for each in (earlier, point)]
            rows.append(
                [f"M={tasks} B={batch_size:,} D={dim:,} {dtype}", *(with_interval(spread) for spread in spreads)]
            )
    header = ("backward", "over the limit, before", "now", "over the plain sum, before", "now")
    return f"{markdown_table(header, rows)}\n"


def gpu_kernels() -> str:
    """The two operations on gradients on a GPU, over its memory's limit."""
    rows = []
    for point in read_json(RESULTS / "gpu" / "kernels.json")["kernels"]:
        gramian, weighted_sum, limit = (point[f"{name}_us"] for name in ("gramian", "weighted_sum", "limit"))
        shape = f"M={point['tasks']} B={point['batch_size']:,} {point['dtype']}"
        over = f"{(gramian + weighted_sum) / limit:.2f}"
        rows.append([shape, f"{gramian:,.0f}", f"{weighted_sum:,.0f}", f"{limit:,.0f}", over])
    return (
        f"{markdown_table(('gradients', 'Gramian (us)', 'weighted sum (us)', 'limit (us)', 'over the limit'), rows)}\n"
    )


def gpu_host() -> str:
    """The host's time to launch a step of the layer."""
    results = read_json(RESULTS / "gpu" / "kernels.json")
    before, now = results["host_us_before"], results["host_us"]
    rows = [[f"`{name}`", f"{before[name]:,.0f}", f"{now[name]:,.0f}"] for name in now if name in before]
    return f"{markdown_table(('method', 'launched one by one', 'from CUDA graphs'), rows)}\n"


def _benchmark(name: str) -> str:
    return format_benchmark(PERFORMANCE / f"{name}.json")
