"""Steps per second when tasks, embedding dimension, batch, tables or ranks grow."""

import gc
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dlrm_mtl.benchmarks.growth.ranks import launch_ranks
from dlrm_mtl.benchmarks.growth.steps import Size, Steps
from dlrm_mtl.benchmarks.limits import Limits, format_limits, measure_limits
from dlrm_mtl.benchmarks.markdown import INTERVAL, cell, markdown_table, with_interval
from dlrm_mtl.benchmarks.synthetic_cases import GrowthCase
from dlrm_mtl.benchmarks.windows import Contender, compare_collective_rates
from dlrm_mtl.config import require
from dlrm_mtl.distributed.processes import Ranks, process_group
from dlrm_mtl.distributed.quiet import silence_known_warnings
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.run_directory import describe_environment

CONTROL, BALANCED = "mean", "multibalance"
BASE = "base"
TIMEOUT_S = 600


def measure_growth(case: GrowthCase) -> dict[str, Any]:
    """Steps per second along each axis. Collective; the axis of ranks starts jobs of its own, from one process.

    Raises:
        ValueError: the ranks do not divide a batch; the axis of ranks in a job of several processes.
        RuntimeError: a job of the axis of ranks failed.
    """
    versions = check_versions()
    silence_known_warnings()
    base = Size(case.base_tasks, case.base_dim, case.base_batch, case.base_tables)
    with process_group(TIMEOUT_S) as ranks:
        alone = ranks.world_size == 1 or "ranks" not in case.axes
        require("axes", case.axes, alone, f"no ranks in a job of {ranks.world_size} processes")
        reference = Steps(CONTROL, base, case.table_rows, ranks)
        limits = _limits(reference, ranks)
        points = [{"axis": BASE, "value": None, **_measure(case, base, reference, ranks)}]
        for axis in case.axes:
            for value in getattr(case, axis) if axis != "ranks" else ():
                size = base.with_({axis: value})
                points.append({"axis": axis, "value": value, **_measure(case, size, reference, ranks)})
        environment = describe_environment(versions, ranks.world_size, str(ranks.device))
    if "ranks" in case.axes:
        points += [{"axis": "ranks", "value": count, **launch_ranks(case, count)} for count in case.ranks]
    return {"environment": environment, "base": asdict(base), "points": points, "limits": limits.as_dict()}


def format_growth(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table, and the limits of the machine for the base model."""
    rows = []
    for point in results["points"]:
        name = BASE if point["axis"] == BASE else f"{point['axis']} = {point['value']:,}"
        rates, time = point["steps_per_second"], point["time_over_base"]
        rows.append(
            [
                name,
                *(cell(rates[arm], ",.1f") for arm in (CONTROL, BALANCED)),
                with_interval(time),
                with_interval(point["balancing"], ".3f"),
            ]
        )
    header = (
        *("model", f"steps/s, `{CONTROL}`", f"steps/s, `{BALANCED}`"),
        *(f"step time of `{CONTROL}` over the base model's, {INTERVAL}", f"`{BALANCED}` over `{CONTROL}`, {INTERVAL}"),
    )
    base = ", ".join(f"{name} = {value:,}" for name, value in results["base"].items())
    return f"{markdown_table(header, rows)}\n\nBase model: {base}.\n\n{format_limits(results['limits'])}"


def _measure(case: GrowthCase, size: Size, reference: Steps, ranks: Ranks) -> dict[str, Any]:
    arms = {arm: Steps(arm, size, case.table_rows, ranks) for arm in (CONTROL, BALANCED)}
    contenders: dict[str, Contender] = {BASE: reference.step, **{arm: steps.step for arm, steps in arms.items()}}
    rates = compare_collective_rates(contenders, case.windows, case.seconds, ranks.synchronize, ranks.broadcast)
    del arms, contenders
    gc.collect()  # sharded models refer to themselves, and the next one needs their memory
    return {
        "size": asdict(size),
        "steps_per_second": {arm: asdict(rates[arm]) for arm in (CONTROL, BALANCED)},
        "time_over_base": asdict(rates[BASE].over(rates[CONTROL])),
        "balancing": asdict(rates[CONTROL].over(rates[BALANCED])),
    }


def _limits(steps: Steps, ranks: Ranks) -> Limits:
    return measure_limits(steps.model, steps.work(), steps.rows, ranks.device, ranks.synchronize)
