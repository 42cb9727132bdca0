"""Whole training steps of the default model under several methods, in the windows of a comparison."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from dlrm_mtl.benchmarks.cases import MethodsCase
from dlrm_mtl.benchmarks.default_model import measure_default_limits
from dlrm_mtl.benchmarks.limits import format_limits
from dlrm_mtl.benchmarks.markdown import INTERVAL, cell, markdown_table, with_interval
from dlrm_mtl.benchmarks.session import EVEN_READING, open_benchmark, read_environment
from dlrm_mtl.benchmarks.windows import Spread, take_turns
from dlrm_mtl.training.session import ArmTrainer


def measure_methods(case: MethodsCase) -> dict[str, Any]:
    """QPS of each arm, window by window, and its ratio to the first. Collective.

    Raises:
        ValueError: the data set cannot be trained on, or an arm is unknown.
    """
    with open_benchmark(case, reader=EVEN_READING, arms=case.arms, model=case.model) as session:
        trainers = {arm: session.trainer(arm, seed=0) for arm in case.arms}
        windows = {arm: partial(window_qps, trainer, case.steps) for arm, trainer in trainers.items()}
        qps = {arm: Spread.of(values) for arm, values in take_turns(windows, case.windows).items()}
        limits = measure_default_limits(session)
        environment = read_environment(session)
    control = qps[case.arms[0]]
    return {
        "environment": environment,
        "qps": {arm: asdict(spread) for arm, spread in qps.items()},
        "step_over_control": {arm: asdict(control.over(spread)) for arm, spread in qps.items()},
        "limits": limits.as_dict(),
    }


def format_methods(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table, and the limits of the machine."""
    control = next(iter(results["qps"]))
    rows = [
        [f"`{arm}`", cell(qps, ",.0f"), with_interval(results["step_over_control"][arm], ".3f")]
        for arm, qps in results["qps"].items()
    ]
    table = markdown_table(("arm", "samples/s", f"step time over `{control}`, {INTERVAL}"), rows)
    return f"{table}\n\n{format_limits(results['limits'])}"


def window_qps(trainer: ArmTrainer, steps: int) -> float:
    """Samples per second of a window of training."""
    qps = trainer.train_window(steps).qps
    if qps is None:
        raise RuntimeError(f"a window of {steps} steps has no rate, though training has no end here")
    return qps
