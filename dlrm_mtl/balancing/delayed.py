"""``reduction="delayed"``: a step's coefficients follow from the statistics of the previous step, whose all-reduce ran
behind the rest of that step. With it micro-batches, all weighed by the coefficients of one step."""

from typing import Any

import torch
from torch import Tensor

from dlrm_mtl.balancing.accumulation import MicroBatches
from dlrm_mtl.balancing.algebra.arrays import Array, in_kind_of, like, namespace, to_tensor
from dlrm_mtl.balancing.delayed_state import (
    DelayedState,
    delayed_entries,
    restore_delayed_state,
    store_delayed_state,
)
from dlrm_mtl.balancing.exchange.reduction import PendingReduction, Reducer
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.step import Decision, Measurement, Reduced


class Delayed:
    """What one step passes to the next.

    Raises:
        ValueError: two pairs of tasks have the same name, FIRST/SECOND.
    """

    def __init__(self, balancer: Balancer, reducer: Reducer) -> None:
        self._balancer = balancer
        self._reducer = reducer
        self._entries = delayed_entries(balancer)
        self.accumulating = False
        """Whether the next measurement is of a micro-batch that is not the last of its step."""
        self._pending: PendingReduction | None = None
        """The statistics of the last step."""
        self._decision: Decision | None = None
        """Of the last step or micro-batch."""
        self._accumulated: MicroBatches | None = None
        """Sums of the present step, if it has had micro-batches."""

    def reset(self) -> None:
        """Returns to the state before the first step."""
        self.accumulating = False
        self._pending = self._decision = self._accumulated = None

    def exchange(self, measurement: Measurement) -> Reduced:
        """Finishes the reduction of the last step, and starts that of this one. Collective.

        Returns:
            the statistics of the last step; in a first step, which has none, the initial coefficients; for a further
            micro-batch the coefficients of the previous one.
        """
        reduced = self._reduced(measurement)
        losses = measurement.losses if self._balancer.needs_losses else None
        statistic = measurement.statistic
        if isinstance(statistic, Tensor):  # the next step may overwrite what a graph returned
            statistic, losses = statistic.clone(), None if losses is None else losses.clone()
        rows = MicroBatches(statistic, losses, 1)
        if self._accumulated is not None:
            rows = self._accumulated.plus(rows)
        if self.accumulating:
            self._accumulated = rows
        else:
            self._accumulated = None
            self._pending = self._reducer.start(rows.statistic, self._balancer.degree, rows.mean_losses)
        return reduced

    def remember(self, decision: Decision) -> None:
        """Keeps the decision of this step."""
        self._decision = decision

    def last_coefficients(self) -> Array | None:
        """(M,) of the last step; None before the first. Finishes its reduction, since another may follow."""
        if self._pending is None or self._decision is None:
            return None
        self._pending.wait()
        return self._decision.coefficients

    def _reduced(self, measurement: Measurement) -> Reduced:
        if self._accumulated is not None and self._decision is not None:
            return Reduced(self._decision.statistic, None, repeated=self._decision.coefficients)
        if self._pending is None or self._decision is None:
            statistic = namespace(measurement.statistic).zeros_like(measurement.statistic)
            initial = 1.0 * like(statistic, self._balancer.initial_coefficients())
            return Reduced(statistic, None, repeated=self._balancer.mixed(initial))
        statistic, losses = self._pending.wait()
        values = (statistic, losses, self._decision.coefficients)
        return Reduced(*(None if value is None else in_kind_of(measurement.statistic, value) for value in values))

    def store(self) -> dict[str, Tensor]:
        """State by key; empty before the first step. Waits for the all-reduce in flight.

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

    def load_from(
        self, state_dict: dict[str, Any], prefix: str, device: torch.device
    ) -> tuple[list[str], list[str], dict[str, Any]]:
        """Loads this state, if it is complete; else the next step is like a first one.

        Args:
            state_dict: state by key. If no key begins with the prefix, nothing changes.

        Returns:
            keys that are missing, keys that are not used (neither if nothing of this state is stored), and the rest of
            the state dict.
        """
        owned = tuple(f"{prefix}{name}." for name in self._entries)
        stored = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(owned)}
        if any(key.startswith(prefix) for key in state_dict):
            self.reset()
        expected = {f"{name}.{entry}" for name, entries in self._entries.items() for entry in entries}
        complete = expected <= stored.keys()
        if complete:
            state = restore_delayed_state(stored, self._entries, device)
            self._pending = PendingReduction(state.statistic, state.losses, None, None)
            applied = state.coefficients
            self._decision = Decision(state.statistic, applied, applied, applied, True)
        missing = expected - stored.keys() if stored else set()
        unused = stored.keys() - (expected if complete else set())
        rest = {key: value for key, value in state_dict.items() if not key.startswith(owned)}
        return [prefix + key for key in sorted(missing)], [prefix + key for key in sorted(unused)], rest
