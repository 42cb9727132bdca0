"""Number of training steps of a run, and whether it is enough to draw conclusions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from dlrm_mtl.records import build
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.schema import STREAM, Schema

ENOUGH_STEPS = 100
"""With fewer steps, task weights and optimizers are still close to their initial state."""


@dataclass(frozen=True)
class TrainingLength:
    """The sizes that determine how many steps each arm trains."""

    rows: int
    """Rows of the training split."""
    batch_size: int
    epochs: int
    max_steps: int | None
    ranks: int
    padded: bool = False
    """Whether padding fills up the last batch of an epoch; otherwise its rows are left out."""

    @classmethod
    def of(cls, config: RunConfig, schema: Schema, ranks: int) -> "TrainingLength":
        split = schema.trained_split
        rows = schema.rows(split)
        return cls(rows, config.batch_size, config.epochs, config.max_steps, ranks, padded=split == STREAM)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "TrainingLength":
        """
        Raises:
            ValueError: a key is missing or a type is wrong.
        """
        return build(cls, {key: value for key, value in record.items() if key != "steps"}, "training")

    def as_json(self) -> dict[str, Any]:
        record = {**asdict(self), "steps": self.steps}
        if not self.padded:
            del record["padded"]
        return record

    @property
    def steps(self) -> int:
        """Steps per arm and seed."""
        return self._possible if self.max_steps is None else min(self._possible, self.max_steps)

    def warning(self) -> str | None:
        """A warning for a run that is too short, with options that would make it long enough; None for others, and for
        a period, which is a part of a run."""
        if self.padded or self.steps >= ENOUGH_STEPS:
            return None
        options = []
        if self.max_steps is not None and self.max_steps < ENOUGH_STEPS:
            options.append(f"--max-steps {ENOUGH_STEPS} or more")
        if self._possible < ENOUGH_STEPS:
            options.append(self._longer())
        return (
            f"WARNING: {self.steps} training steps per arm, fewer than {ENOUGH_STEPS}: task weights and optimizers have"
            " hardly left their start, and the differences between arms say little."
            f" {self.rows:,} training rows make at least {ENOUGH_STEPS} steps with {' and '.join(options)}."
        )

    @property
    def _possible(self) -> int:
        """Steps that the data allows."""
        steps, rest = divmod(self.rows, self.batch_size)
        return self.epochs * (steps + bool(self.padded and rest))

    def _longer(self) -> str:
        """The largest batch size that gives enough steps; if even one row per rank does not, the number of epochs."""
        most = self.rows // ceil(ENOUGH_STEPS / self.epochs)
        batch_size = most - most % self.ranks
        if batch_size > 0:
            return f"--batch-size {batch_size} or less"
        return f"--epochs {ceil(ENOUGH_STEPS / max(1, self.rows // self.batch_size))} or more"
