"""The noise of gains before any comparison: from what schema.json says of a data set, and assumptions."""

import math

from dlrm_mtl.power_analysis.options import PowerOptions
from dlrm_mtl.power_analysis.source import GainNoise, Source
from dlrm_mtl.schema import Schema, Task
from dlrm_mtl.statistics.power import Noise
from dlrm_mtl.task_weights import share_weights

SEEDS = 5


def assume_noise(schema: Schema, options: PowerOptions) -> Source:
    """The noise of an arm whose seeds spread, and whose logits differ from the control's, as the options say.

    Raises:
        ValueError: a task weight is missing, or of no task.
    """
    shares = share_weights(options.task_weights, schema.task_names)
    notes = [
        f"Assumed: over seeds a standard deviation of {options.seed_spread:g} % / sqrt(positives) (--seed-spread);"
        f" between the logits of arm and control one of {options.disagreement:g} over rows (--disagreement); positives"
        " as frequent as in the training rows; errors that are independent between tasks."
    ]
    gains = []
    for task in schema.tasks:
        rows = _defined_rows(schema, task)
        if rows is None:
            rows = schema.rows("eval")
            notes.append(f"Rows with {task.given} = 1 are not counted: {task.name} is taken as defined on all rows.")
        noise = _noise(rows, task.base_rate, options)
        gains.append(GainNoise(None, task.name, noise, True, rows, round(rows * task.base_rate)))
    parts = [(shares[str(gain.task)], gain.noise) for gain in gains]
    average = Noise(
        seed=math.hypot(*(share * noise.seed for share, noise in parts)),
        shared_rows=math.hypot(*(share * noise.shared_rows for share, noise in parts)),
    )
    gains.insert(0, GainNoise(None, None, average, True, max(gain.rows or 0 for gain in gains), None))
    heading = f"Data set {schema.name}, {schema.rows('eval'):,} evaluation rows"
    return Source(heading, notes, options.seeds or SEEDS, gains)


def _noise(rows: int, rate: float, options: PowerOptions) -> Noise:
    """Where the logits of two models differ by a standard deviation tau, a row's log losses differ by one of
    sqrt(p (1 - p)) tau at most, to first order, with p the base rate."""
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))
    of_row = 100 * math.sqrt(rate * (1 - rate)) * options.disagreement / entropy
    return Noise(options.seed_spread / math.sqrt(rows * rate), of_row / math.sqrt(rows))


def _defined_rows(schema: Schema, task: Task) -> int | None:
    """Evaluation rows for which a task is defined: all, or as many as the task has positives whose label is its
    condition; None if there is no such task."""
    rates = {other.label: other.base_rate for other in schema.tasks if not other.given}
    if not task.given:
        return schema.rows("eval")
    return round(schema.rows("eval") * rates[task.given]) if task.given in rates else None
