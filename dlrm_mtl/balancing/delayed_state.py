"""The state of ``reduction="delayed"`` between two steps, stored by task name."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.state.task_state import Entries, pair_entries, task_entries


@dataclass(frozen=True)
class DelayedState:
    """Float64."""

    statistic: Tensor
    """(M, M) Gramian or (M, D) pooled gradients of the last step, reduced. Zeros, not stored, if the method measures
    nothing."""
    losses: Tensor | None
    """(M,) of the last step, reduced, if the method needs them."""
    coefficients: Tensor
    """(M,) of the last step."""


def delayed_entries(balancer: Balancer) -> dict[str, Entries]:
    """Names under which a delayed state is stored: ``pending_statistic.A/B`` (or ``.A``), ``pending_losses.A``,
    ``delayed_coefficients.A``.

    Raises:
        ValueError: two pairs of tasks have the same name, FIRST/SECOND.
    """
    tasks = task_entries(balancer.task_names)
    entries = {"delayed_coefficients": tasks}
    if balancer.measures != "nothing":
        gramian = balancer.measures == "gramian"
        entries["pending_statistic"] = pair_entries(balancer.task_names) if gramian else tasks
    if balancer.needs_losses:
        entries["pending_losses"] = tasks
    return entries


def store_delayed_state(state: DelayedState, entries: Mapping[str, Entries]) -> dict[str, Tensor]:
    """By key, without prefix."""
    values = {"pending_statistic": state.statistic, "delayed_coefficients": state.coefficients}
    if state.losses is not None:
        values["pending_losses"] = state.losses
    return {
        f"{name}.{entry}": values[name][index].double() for name in entries for entry, index in entries[name].items()
    }


def restore_delayed_state(
    stored: Mapping[str, Tensor], entries: Mapping[str, Entries], device: torch.device
) -> DelayedState:
    """The inverse of :func:`store_delayed_state`."""
    values = {
        name: torch.stack([stored[f"{name}.{entry}"] for entry in places]).double().to(device)
        for name, places in entries.items()
    }
    coefficients = values["delayed_coefficients"]
    num_tasks = len(coefficients)
    statistic = values.get("pending_statistic", coefficients.new_zeros(num_tasks, num_tasks))
    if statistic.dim() == 1:  # of pairs
        statistic = statistic.view(num_tasks, num_tasks)
    return DelayedState(statistic, values.get("pending_losses"), coefficients)
