"""The logger that writes the folder ``tensorboard`` of every arm."""

from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter

from dlrm_mtl.monitoring.logger import LoggedArm, Outcome


class TensorBoard:
    """See :class:`dlrm_mtl.monitoring.logger.Logger`."""

    def __init__(self) -> None:
        self._boards: dict[LoggedArm, SummaryWriter] = {}

    def begin(self, arm: LoggedArm) -> None:
        self._boards[arm] = SummaryWriter(str(arm.directory / "tensorboard"), purge_step=arm.step + 1)

    def log(self, arm: LoggedArm, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._boards[arm].add_scalar(name, value, step)

    def end(self, arm: LoggedArm, outcome: Outcome) -> None:
        self._boards.pop(arm).close()
