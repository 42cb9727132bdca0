"""``reduction="delayed"``: a step's coefficients come from the statistics of the step before, whose all-reduce was
hidden behind the rest of that step. And micro-batches, which one step's coefficients weigh."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dlrm_mtl.balancing.accumulation import MicroBatches
from dlrm_mtl.balancing.algebra.arrays import in_kind_of, to_tensor
from dlrm_mtl.balancing.delayed_state import (
    DelayedState,
    delayed_entries,
    restore_delayed_state,
    store_delayed_state,
)
from dlrm_mtl.balancing.exchange.reduction import PendingReduction, Reducer
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.step import Decision, Measurement, Source


class Delayed:
    """What one step leaves to the next.

    Raises:
        ValueError: task names whose pairs have one name, which state could not be stored by.
    """

    def __init__(self, balancer: Balancer, reducer: Reducer) -> None:
        self._balancer = balancer
        self._reducer = reducer
        self._entries = delayed_entries(balancer)
        self.accumulating = False
        """Whether the next measurement is of a micro-batch that is not its step's last."""
        self._pending: PendingReduction | None = None
        """What the next step's coefficients come from."""
        self._decision: Decision | None = None
        """Of the last step, or of the step under way."""
        self._accumulated: MicroBatches | None = None
        """Of the step under way, if it has had micro-batches."""

    def reset(self) -> None:
        """As before the first step."""
        self.accumulating = False
        self._pending = self._decision = self._accumulated = None

    def exchange(self, measurement: Measurement) -> Source | Decision | None:
        """Takes what the last step handed over, and hands over this step's. Collective.

        Returns:
            what this step's coefficients come from; a decision, if they are those of the micro-batch before; None in a
            first step.
        """
        source = self._source(measurement)
        losses = measurement.losses if self._balancer.needs_losses else None
        statistic = measurement.statistic
        if isinstance(statistic, Tensor):  # kept until the next step, which may overwrite what a graph returned
            statistic, losses = statistic.clone(), None if losses is None else losses.clone()
        rows = MicroBatches(statistic, losses, 1)
        if self._accumulated is not None:
            rows = self._accumulated.plus(rows)
        if self.accumulating:
            self._accumulated = rows
        else:
            self._accumulated = None
            self._pending = self._reducer.start(rows.statistic, self._balancer.degree, rows.mean_losses)
        return source

    def remember(self, decision: Decision) -> None:
        """What this step applies."""
        self._decision = decision

    def _source(self, measurement: Measurement) -> Source | Decision | None:
        if self._accumulated is not None:
            return self._decision
        if self._pending is None or self._decision is None:
            return None
        statistic, losses = self._pending.wait()
        values = (statistic, losses, self._decision.coefficients)
        return Source(*(None if value is None else in_kind_of(measurement.statistic, value) for value in values))

    def store(self) -> dict[str, Tensor]:
        """State by key; none before the first step. Waits for the all-reduce in flight.

        Raises:
            RuntimeError: between micro-batches of one step.
        """
        if self._accumulated is not None:
            raise RuntimeError(
                "the balancing layer's state was asked for between micro-batches of one step (see accumulating()),"
                " expected after the last one's backward"
            )
        if self._pending is None or self._decision is None:
            return {}
        statistic, losses = self._pending.wait()
        state = DelayedState(
            to_tensor(statistic), None if losses is None else to_tensor(losses), to_tensor(self._decision.coefficients)
        )
        return store_delayed_state(state, self._entries)

    def owns(self, key: str) -> bool:
        """Whether a key of a state dict, without prefix, is of this state."""
        return key.startswith(tuple(f"{name}." for name in self._entries))

    def restore(self, stored: Mapping[str, Tensor], device: torch.device) -> tuple[set[str], set[str]]:
        """Takes a stored state over, if it is complete; without it the next step is as a first one.

        Returns:
            keys that are missing, and keys that are not used; none of either if nothing is stored.
        """
        self.reset()
        expected = {f"{name}.{entry}" for name, entries in self._entries.items() for entry in entries}
        complete = expected <= stored.keys()
        if complete:
            state = restore_delayed_state(stored, self._entries, device)
            self._pending = PendingReduction(state.statistic, state.losses, None, None)
            applied = state.coefficients
            self._decision = Decision(state.statistic, applied, applied, applied, True)
        if not stored:
            return set(), set()
        return expected - stored.keys(), stored.keys() - (expected if complete else set())
