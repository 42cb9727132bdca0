"""Whether a run that is preempted has the time to save its work."""

import math
import os

from dlrm_mtl.ending import SAVE_TIME


def time_to_save(round_s: float, checkpoint_s: float) -> str | None:
    """A line on the time that a preemption takes and has; None where no launcher says how long it waits.

    Args:
        round_s: seconds of a round of windows, after which a run that is told to end writes a checkpoint.
        checkpoint_s: seconds of a checkpoint.
    """
    available = os.environ.get(SAVE_TIME)
    if available is None:
        return None
    needed = math.ceil(round_s + checkpoint_s)
    takes = f"a preemption takes up to {needed} s: {round_s:.1f} s of training windows, {checkpoint_s:.1f} s of saving"
    if needed <= int(available):
        return f"{takes}; this job has {available} s"
    return (
        f"WARNING: {takes}; this job has {available} s and would lose the steps since its last checkpoint:"
        f" --save_time {2 * needed}, or a smaller --log-every"
    )
