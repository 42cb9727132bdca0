"""Cost of a comparison beyond training: an arm that takes turns with another one, against the same arm alone."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dlrm_mtl.benchmarks.cases import OverheadCase
from dlrm_mtl.benchmarks.markdown import INTERVAL, cell, markdown_table, with_interval
from dlrm_mtl.benchmarks.session import DEFAULT_ARM, EVEN_READING, open_benchmark, read_environment, train_windows
from dlrm_mtl.benchmarks.windows import compare_collective_rates

ALONE, IN_TURNS = "alone", "in turns with another"


def measure_overhead(case: OverheadCase) -> dict[str, Any]:
    """Samples per second of one trainer, and of two of the same arm that take turns. Collective.

    Raises:
        ValueError: a data set that cannot be trained on.
    """
    with open_benchmark(case, reader=EVEN_READING) as session:
        alone, *two = (session.trainer(DEFAULT_ARM, seed=0) for _ in range(3))
        contenders = {ALONE: train_windows(session, [alone]), IN_TURNS: train_windows(session, two)}
        ranks = session.ranks
        rates = compare_collective_rates(contenders, case.windows, case.seconds, ranks.synchronize, ranks.broadcast)
        environment = read_environment(session)
    return {
        "environment": environment,
        "samples_per_second": {name: asdict(rate) for name, rate in rates.items()},
        "time_over_alone": asdict(rates[ALONE].over(rates[IN_TURNS])),
    }


def format_overhead(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table."""
    over = {ALONE: "1", IN_TURNS: with_interval(results["time_over_alone"], ".3f")}
    rows = [[name, cell(rate, ",.0f"), over[name]] for name, rate in results["samples_per_second"].items()]
    return markdown_table(
        (f"{DEFAULT_ARM}, trained", "samples/s", f"time per sample over that alone, {INTERVAL}"), rows
    )
