"""The noise of gains before any comparison, from schema.json and assumptions."""

import math

from dlrm_mtl.model_schema import Task
from dlrm_mtl.power_analysis.options import PowerOptions
from dlrm_mtl.power_analysis.source import GainNoise, Source
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import Schema
from dlrm_mtl.statistics.power import Noise
from dlrm_mtl.task_weights import share_weights

SEEDS = 5


def assume_noise(schema: Schema, options: PowerOptions) -> Source:
    """The noise of an arm's gains under the assumed spreads over seeds and rows.

    Raises:
        ValueError: a task weight is missing, or names no task.
    """
    shares = share_weights(options.task_weights, schema.task_names)
    notes = [
        f"Assumed: a standard deviation of {options.seed_spread:g} % / sqrt(positives) over seeds (--seed-spread), half"
        f" of whose variance falls with more rows; one of {options.row_spread:g} % / sqrt(positives) over rows"
        " (--row-spread); positives as frequent as in the training rows; errors that are independent between tasks."
    ]
    gains = []
    for task in schema.tasks:
        rows = _defined_rows(schema, task)
        if rows is None:
            rows = schema.rows("eval")
            notes.append(f"No task counts rows with {task.given} = 1: {task.name} is taken as defined on all rows.")
        if task.base_rate is None:
            raise ValueError(f"task {quote(task.name)} is a regression: give a run (--run) instead of a data set")
        positives = rows * task.base_rate
        # Half of the variance over seeds on the same rows is taken to fall with more rows.
        part = options.seed_spread / math.sqrt(2 * positives)
        noise = Noise(seed=part, shared_rows=options.row_spread / math.sqrt(positives), own_rows=part)
        gains.append(GainNoise(None, task.name, noise, True, rows, round(positives)))
    parts = [(shares[str(gain.task)], gain.noise) for gain in gains]
    average = Noise(
        seed=math.hypot(*(share * noise.seed for share, noise in parts)),
        shared_rows=math.hypot(*(share * noise.shared_rows for share, noise in parts)),
        own_rows=math.hypot(*(share * noise.own_rows for share, noise in parts)),
    )
    gains.insert(0, GainNoise(None, None, average, True, max(gain.rows or 0 for gain in gains), None))
    heading = f"Data set {schema.name}, {schema.rows('eval'):,} evaluation rows"
    return Source(heading, notes, options.seeds or SEEDS, gains)


def _defined_rows(schema: Schema, task: Task) -> int | None:
    """Evaluation rows for which a task is defined: all, or the positives of the task whose label is its condition; None
    if no task has that label."""
    rates = {other.label: other.base_rate for other in schema.tasks if not other.given and other.base_rate is not None}
    if not task.given:
        return schema.rows("eval")
    return round(schema.rows("eval") * rates[task.given]) if task.given in rates else None
