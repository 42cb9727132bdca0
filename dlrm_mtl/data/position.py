"""The position of a run in its passes over the training split."""

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

from dlrm_mtl.quoting import quote


@dataclass(frozen=True)
class Phase:
    """Consecutive steps of one epoch that were trained on the same ranks and reader streams."""

    world_size: int
    workers: int
    """Reader streams per rank: the number of its reader processes, at least 1."""
    steps: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not _is_integer(value) or value < 1:
                raise ValueError(f"data position: {name} is {quote(value)}, expected an integer of at least 1")


@dataclass(frozen=True)
class Position:
    """The next row to train on: for each phase of the present epoch, the number of steps and of ranks.

    The rows that are left follow from it, because the order of an epoch and its division are functions of seed, epoch
    and phase. Steps per epoch and global batch size are the same in all phases.
    """

    epoch: int = 0
    phases: tuple[Phase, ...] = ()
    """In the order of training; empty at the beginning of an epoch."""

    def __post_init__(self) -> None:
        if not _is_integer(self.epoch) or self.epoch < 0:
            raise ValueError(f"data position: epoch is {quote(self.epoch)}, expected an integer of at least 0")

    @property
    def steps(self) -> int:
        """Steps trained in the present epoch."""
        return sum(phase.steps for phase in self.phases)

    def advance(self, steps: int, world_size: int, workers: int, steps_per_epoch: int) -> "Position":
        """The position after further steps, possibly in a later epoch; the end of an epoch is the beginning of the
        next.

        Raises:
            ValueError: ``steps`` is negative.
        """
        if steps < 0:
            raise ValueError(f"data position: {steps} further steps, expected 0 or more")
        epochs, rest = divmod(self.steps + steps, steps_per_epoch)
        if epochs:
            return Position(self.epoch + epochs).advance(rest, world_size, workers, steps_per_epoch)
        if not steps:
            return self
        phases = self.phases
        if phases and (phases[-1].world_size, phases[-1].workers) == (world_size, workers):
            steps += phases[-1].steps
            phases = phases[:-1]
        return Position(self.epoch, (*phases, Phase(world_size, workers, steps)))

    def as_json(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "phases": [list(astuple(phase)) for phase in self.phases]}

    @classmethod
    def from_json(cls, value: Any) -> "Position":
        """Reads what :meth:`as_json` gives.

        Raises:
            ValueError: it is anything else.
        """
        if not isinstance(value, Mapping) or value.keys() != {"epoch", "phases"}:
            raise ValueError(f"data position: {quote(value)}, expected an object of epoch and phases")
        names = [field.name for field in fields(Phase)]
        if not isinstance(value["phases"], list):
            raise ValueError(f"data position: phases are {quote(value['phases'])}, expected a list")
        for phase in value["phases"]:
            if not isinstance(phase, list) or len(phase) != len(names):
                raise ValueError(f"data position: phase {quote(phase)}, expected [{', '.join(names)}]")
        return cls(value["epoch"], tuple(Phase(*phase) for phase in value["phases"]))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
