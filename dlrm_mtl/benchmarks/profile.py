"""Where the time of a training step goes, by torch's profiler."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from dlrm_mtl.benchmarks.cases import ProfileCase
from dlrm_mtl.benchmarks.loops.loop import PLAIN
from dlrm_mtl.benchmarks.loops.plain_loops import plain_loop
from dlrm_mtl.benchmarks.markdown import cell, markdown_table
from dlrm_mtl.benchmarks.session import EVEN_READING, open_benchmark, read_environment, train_windows
from dlrm_mtl.benchmarks.windows import Contender, Spread, take_turns
from dlrm_mtl.data.reader import READING
from dlrm_mtl.training.session import Session

PARTS = {
    "reading": rf"enumerate\(DataLoader\).*|{READING}",
    "collectives, with waiting": r"c10d::.*|gloo:.*|nccl:.*|All2All.*|## ?(All2All|Splits|Fused|all2all).*",
    "tables": r"fbgemm::.*|\[(lookup|output_dist|sparse_data_dist|splits_dist).*",
    "matrix products": r"mkldnn::.*|aten::(addmm|mm|bmm|baddbmm|linear)",
    "balancing layer, with waiting": r"_(Cut|Mix).*",
    "optimizer and guard": r"Optimizer\..*",
}
"""Full names of operations. Other operations count to the part that called them."""
OTHER = "other operations"
PYTHON = "Python and the rest"


def measure_profile(case: ProfileCase) -> dict[str, Any]:
    """Seconds of a step in each part on the first rank, of the GPU if there is one, else of the host. Collective.

    Raises:
        ValueError: the data set cannot be trained on, or an arm is unknown.
    """
    with open_benchmark(case, reader=EVEN_READING, arms=case.arms) as session:
        arms = {arm: train_windows(session, [session.trainer(arm, seed=0)]) for arm in case.arms}
        contenders = {PLAIN: plain_loop(session), **arms}
        on_gpu = session.ranks.device.type == "cuda"
        turns = {name: partial(_profile, session, contender, on_gpu) for name, contender in contenders.items()}
        windows = take_turns(turns, case.windows)
        environment = read_environment(session)
    return {
        "environment": environment,
        "seconds_per_step": {
            name: {part: asdict(Spread.of([each[part] for each in seconds])) for part in seconds[0]}
            for name, seconds in windows.items()
        },
    }


def format_profile(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table, in milliseconds."""
    loops = results["seconds_per_step"]
    parts = next(iter(loops.values()))
    rows = [[part, *(cell(loop[part], ".2f", 1e3) for loop in loops.values())] for part in parts]
    table = markdown_table(("ms of a step", *loops), rows)
    return f"{table}\n\nRanks: {results['environment']['world_size']}."


def attribute(events: Iterable[FunctionEvent], on_gpu: bool) -> dict[str, float]:
    """Seconds in each part, from each operation's own time without the operations that it calls.

    Args:
        on_gpu: whether to count the device's time instead of the host's.
    """
    seconds = dict.fromkeys([*PARTS, OTHER], 0.0)
    timed = list(events)
    [(training, _)] = Counter(event.thread for event in timed).most_common(1)
    for event in timed:
        if on_gpu:
            seconds[_part(event)] += event.self_device_time_total / 1e6
        elif event.thread == training and not event.is_async:  # gloo's threads run beside it
            seconds[_part(event)] += event.self_cpu_time_total / 1e6
    return seconds


def _part(event: FunctionEvent | None) -> str:
    while event is not None:
        for part, pattern in PARTS.items():
            if re.fullmatch(pattern, event.name):
                return part
        event = event.cpu_parent
    return OTHER


def _profile(session: Session, window: Contender, on_gpu: bool) -> dict[str, float]:
    steps = session.config.log_every
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    session.ranks.synchronize()
    with profile(activities=activities, acc_events=True) as profiler:
        start = time.perf_counter()
        window()
        session.ranks.synchronize()
        passed = time.perf_counter() - start
    parts = {part: seconds / steps for part, seconds in attribute(profiler.events() or [], on_gpu).items()}
    total = passed / steps
    return {"all": total, **parts, PYTHON: total - sum(parts.values())}
