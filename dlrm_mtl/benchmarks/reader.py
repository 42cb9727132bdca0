"""Batches per second that the reader delivers on one core, against the trainer's consumption."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import count, cycle, islice
from typing import Any

from dlrm_mtl.benchmarks.cases import ReaderCase
from dlrm_mtl.benchmarks.markdown import INTERVAL, with_interval
from dlrm_mtl.benchmarks.session import ARMS, DEFAULT_ARM, open_benchmark, read_environment, train_windows
from dlrm_mtl.benchmarks.windows import Contender, Spread, compare_rates, format_spread
from dlrm_mtl.config import require
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.position import Position
from dlrm_mtl.data.reader import TrainingReader
from dlrm_mtl.training.session import Session
from dlrm_mtl.training.trainer import Trainer

WANTED = 5.0
"""The claim: the reader delivers at least this multiple of the default model's consumption."""

STEP = "step, "
"""Prefix of the contenders that train from memory."""

BATCHES_IN_MEMORY = 32
"""Number of batches in memory, which the steps use repeatedly."""


def measure_reader(case: ReaderCase) -> dict[str, Any]:
    """Samples per second of the reader, of each arm's step and of full training, and the reader's ratio to the others.

    Raises:
        ValueError: the data set cannot be trained on, or there is more than one process.
    """
    with open_benchmark(case) as session:
        processes = session.ranks.world_size
        require("number of processes", processes, processes == 1, "1: the benchmark is of one core")
        rates = compare_rates(_contenders(session), case.windows, case.seconds, session.ranks.synchronize)
        environment = read_environment(session)
    return {"environment": environment, **_summarize(rates)}


def format_reader(results: Mapping[str, Any]) -> str:
    """The results as a text table."""
    rates, ratios = results["samples_per_second"], results["reader_over"]
    width = max(map(len, rates))
    lines = [f"{'samples/s':{width}}  {'median':>10} {'P10':>10} {'P90':>10}   reader over it: {INTERVAL}"]
    for name, rate in rates.items():
        line = f"{name:{width}}  {format_spread(rate, '10,.0f')}"
        if name in ratios:
            line += f"   {with_interval(ratios[name])}"
        lines.append(line)
    fastest = min((ratios[name] for name in ratios if name.startswith(STEP)), key=lambda ratio: float(ratio["median"]))
    lines.append(
        f"\nThe reader delivers {with_interval(fastest)} times what the fastest step consumes; wanted: {WANTED:g}"
    )
    return "\n".join(lines)


def _contenders(session: Session) -> dict[str, Contender]:
    return {
        "reader": _reading(session),
        **{f"{STEP}{arm}": _stepping(session, arm) for arm in ARMS},
        f"training, {DEFAULT_ARM}": train_windows(session, [session.trainer(DEFAULT_ARM, seed=0)]),
    }


def _reading(session: Session) -> Contender:
    source = _read(session)
    return lambda: len(next(source))


def _stepping(session: Session, arm: str) -> Contender:
    """Forward, backward and update on batches in memory, without reading and metrics."""
    trainer = session.trainer(arm, seed=0)
    assert isinstance(trainer, Trainer)
    pin = session.ranks.device.type == "cuda"
    source = cycle([batch.pin_memory() if pin else batch for batch in islice(_read(session), BATCHES_IN_MEMORY)])
    trainer.arm.model.train()

    def step() -> int:
        trainer.pipeline.progress(source)
        return session.config.batch_size

    return step


def _read(session: Session) -> Iterator[MultiTaskBatch]:
    """The training split in this process, epoch after epoch."""
    config = session.config
    reader = TrainingReader(
        session.source, config.batch_size, seed=0, rank=0, world_size=1, shuffle_rows=config.reader.shuffle_rows
    )
    for epoch in count():
        reader.set_position(Position(epoch))
        yield from reader


def _summarize(rates: Mapping[str, Spread]) -> dict[str, Any]:
    ratios = {name: rates["reader"].over(rate) for name, rate in rates.items() if name != "reader"}
    return {
        "samples_per_second": {name: asdict(rate) for name, rate in rates.items()},
        "reader_over": {name: asdict(ratio) for name, ratio in ratios.items()},
        "reader_over_fastest_step": min(ratios[f"{STEP}{arm}"].median for arm in ARMS),
        "wanted": WANTED,
    }
