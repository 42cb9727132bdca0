"""A logger for Weights & Biases: ``--logger docs.examples.wandb_logger:WeightsAndBiases``, with ``pip install wandb``.

See docs/monitoring.md.
"""

import secrets
from collections.abc import Mapping

import wandb

from dlrm_mtl.monitoring.logger import LoggedArm, Outcome


class WeightsAndBiases:
    def __init__(self) -> None:
        self._runs: dict[LoggedArm, wandb.Run] = {}

    def begin(self, arm: LoggedArm) -> None:
        file = arm.directory / "wandb-run"  # the run's id, to go on with it after a restart
        if not file.exists():
            file.write_text(secrets.token_hex(8))
        options = {**arm.options, "arm": arm.arm, "seed": arm.seed}
        self._runs[arm] = wandb.init(
            id=file.read_text(), resume="allow", reinit="create_new", name=arm.name, config=options, dir=arm.directory
        )

    def log(self, arm: LoggedArm, step: int, values: Mapping[str, float]) -> None:
        self._runs[arm].log(dict(values), step=step)

    def end(self, arm: LoggedArm, outcome: Outcome) -> None:
        self._runs.pop(arm).finish(exit_code=0 if outcome == "finished" else 1)
