"""Training end to end, including reading, against other training loops."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dlrm_mtl.benchmarks.cases import LoopCase
from dlrm_mtl.benchmarks.default_model import measure_default_limits
from dlrm_mtl.benchmarks.limits import format_limits
from dlrm_mtl.benchmarks.loops.plain_loops import plain_loop, script_loop
from dlrm_mtl.benchmarks.markdown import INTERVAL, cell, markdown_table, with_interval
from dlrm_mtl.benchmarks.session import ARMS, EVEN_READING, open_benchmark, read_environment, train_windows
from dlrm_mtl.benchmarks.windows import Contender, compare_collective_rates
from dlrm_mtl.distributed.affinity import all_cpus

PLAIN, BOUND, SCRIPT = "plain TorchRec loop", "plain TorchRec loop, on own CPUs", "structure of torchrec_dlrm"


def measure_loop(case: LoopCase) -> dict[str, Any]:
    """Samples per second of each loop over all ranks, and their ratios to the plain loop's. Collective.

    Raises:
        ValueError: a data set that cannot be trained on, or that the plain loops cannot divide.
    """
    with open_benchmark(case, reader=EVEN_READING) as session:
        contenders = {
            PLAIN: _on_all_cpus(plain_loop(session)),
            **({BOUND: plain_loop(session)} if session.ranks.world_size > 1 else {}),
            SCRIPT: _on_all_cpus(script_loop(session)),
            **{f"this project, {arm}": train_windows(session, [session.trainer(arm, seed=0)]) for arm in ARMS},
        }
        ranks = session.ranks
        rates = compare_collective_rates(contenders, case.windows, case.seconds, ranks.synchronize, ranks.broadcast)
        limits = measure_default_limits(session)
        environment = read_environment(session)
    return {
        "environment": environment,
        "samples_per_second": {name: asdict(rate) for name, rate in rates.items()},
        "over_plain": {name: asdict(rate.over(rates[PLAIN])) for name, rate in rates.items()},
        "limits": limits.as_dict(),
    }


def format_loop(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table, and the limits of the machine."""
    rows = [
        [name, cell(rate, ",.0f"), with_interval(results["over_plain"][name], ".3f")]
        for name, rate in results["samples_per_second"].items()
    ]
    table = markdown_table(("loop", "samples/s", f"QPS over the plain loop's, {INTERVAL}"), rows)
    return f"{table}\n\nRanks: {results['environment']['world_size']}.\n\n{format_limits(results['limits'])}"


def _on_all_cpus(contender: Contender) -> Contender:
    """Runs a loop on all CPUs, as torchrun starts it, without this project's binding of ranks."""

    def window() -> int:
        with all_cpus():
            return contender()

    return window
