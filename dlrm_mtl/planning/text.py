"""The report as text, short for any number of ranks."""

from collections.abc import Mapping
from statistics import mean
from typing import Any

from dlrm_mtl.columns import align
from dlrm_mtl.distributed.plan_records import format_plan
from dlrm_mtl.distributed.shortfall import MEMORIES, describe_shortfall
from dlrm_mtl.planning.step_time import PARTS
from dlrm_mtl.units import format_size, gib

LINES_OF_RANKS = 16
"""Lines of the table by rank; beyond that, only the slowest are shown."""
DENSE_PARTS = {
    "representation": "  bottom MLP and interaction",
    "sharing": "  experts and gates",
    "heads": "  heads",
}

Report = Mapping[str, Any]


def format_report(report: Report) -> str:
    """Assumptions, verdict, memory, step time and placement."""
    parts = [_heading(report), _verdict(report)]
    if report["plan"] is not None:
        parts += [_memory(report), _step_time(report["plan"]), _ranks(report["plan"])]
        parts.append(format_plan(report["plan"]["tables"]))
    return "\n\n".join(parts)


def _heading(report: Report) -> str:
    assumed, config = report["assumptions"], report["config"]
    ranks = "GPUs" if config["device"] == "cuda" else "ranks"
    gpu = f"{format_size(assumed['hbm'])} per GPU at {format_size(assumed['hbm_bandwidth'])}/s, "
    return "\n".join(
        [
            f"{report['name']} on {assumed['world_size']:,} {ranks} ({assumed['hosts']:,} x"
            f" {config['gpus_per_host']}): an estimate of {report['estimate_of']}'s cost model, not a measurement.",
            f"Global batch {config['batch_size']:,}, {assumed['rows_per_rank']:,} rows per rank; embedding dimension"
            f" {config['model']['embedding_dim']}; {config['optimizer']['table']}.",
            f"Assumed: {gpu if config['device'] == 'cuda' else ''}{format_size(assumed['host_memory'])} per host;"
            f" {format_size(assumed['intra_host_bandwidth'])}/s within a host,"
            f" {format_size(assumed['inter_host_bandwidth'])}/s per rank between hosts;"
            f" {config['sharding']['reserve']:.0%} of memory kept free of tables.",
        ]
    )


def _verdict(report: Report) -> str:
    dense, reserve = report["dense"], report["assumptions"]["reserve"]
    smallest, tried = report["smallest_hosts"], report["largest_hosts_tried"]
    lines = [f"It {'fits' if report['fits'] else 'does not fit'}."]
    if report["plan"] is None:
        lines += [line for shortfall in report["shortfalls"] for line in describe_shortfall(shortfall)]
    if not dense["fits_in_reserve"]:
        missing = format_size(dense["bytes"] - reserve)
        lines.append(f"The dense part needs {missing} more than is kept free of tables: sharding.reserve is too small.")
    elif smallest is None:
        lines.append(f"Nor does it fit on more hosts, up to {tried:,} (of numbers whose ranks divide the batch).")
    else:
        lines.append(f"Fewest hosts that fit (of numbers whose ranks divide the batch): {smallest:,}.")
    return "\n".join(lines)


def _memory(report: Report) -> str:
    rows = [["memory per rank (GiB)", "mean", "max", "on rank"]]
    for name, memory in report["plan"]["memory"].items():
        for part, label in (
            ("tables", f"tables in {MEMORIES[name]}"),
            ("state", "  optimizer state"),
            ("io", "  inputs and outputs"),
            ("total", f"  together, of {gib(report['assumptions']['usable'][name]):.2f} usable"),
        ):
            values = [gib(value) for value in memory[part]]
            largest = max(values)
            rows.append([label, f"{mean(values):.3f}", f"{largest:.3f}", str(values.index(largest))])
    dense, reserve = gib(report["dense"]["bytes"]), gib(report["assumptions"]["reserve"])
    parts = {f"dense part, of {reserve:.2f} kept free": dense}
    if report["config"]["model"]["sharing"] != "bottom":
        parts |= {DENSE_PARTS[name]: gib(part["bytes"]) for name, part in report["dense"]["parts"].items()}
    return align([*rows, *([label, f"{size:.3f}", f"{size:.3f}", "all"] for label, size in parts.items())])


def _step_time(plan: Report) -> str:
    times, imbalance = plan["step_time_ms"], plan["imbalance"]
    slowest = times["slowest_rank"]
    labels = {**PARTS, "total": "together", "input_dist_comms": "input distribution, not counted above"}
    rows = [
        ["estimated step of the tables (ms)", "mean", f"rank {slowest}, the slowest"],
        *([label, f"{mean(times[part]):.3f}", f"{times[part][slowest]:.3f}"] for part, label in labels.items()),
    ]
    names = {"step_time": "step time", **MEMORIES}
    ratios = ", ".join(f"{names[name]} {ratio:.2f}" for name, ratio in imbalance.items())
    return f"{align(rows)}\n\nimbalance (max / mean over ranks): {ratios}"


def _ranks(plan: Report) -> str:
    """The table by rank. Consecutive ranks with equal figures share a line; of many lines, the slowest are shown."""
    runs: list[tuple[int, int, list[str]]] = []
    total = plan["step_time_ms"]["total"]
    for rank, time in enumerate(total):
        cells = [*(f"{gib(memory['total'][rank]):.2f}" for memory in plan["memory"].values()), f"{time:.3f}"]
        if runs and runs[-1][2] == cells:
            runs[-1] = (runs[-1][0], rank, cells)
        else:
            runs.append((rank, rank, cells))
    shown = sorted(sorted(runs, key=lambda run: -total[run[0]])[:LINES_OF_RANKS])
    rows = [["ranks", *(f"{MEMORIES[name]} (GiB)" for name in plan["memory"]), "step (ms)"]]
    rows += [[str(first) if first == last else f"{first}-{last}", *cells] for first, last, cells in shown]
    left = len(total) - sum(last - first + 1 for first, last, _ in shown)
    return align(rows) + (f"\nand {left:,} other ranks, which are faster" if left else "")
