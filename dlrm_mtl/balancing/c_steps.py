"""The layer's steps in C, alone or with other ranks: see ``cpu_step.c``."""

import torch
from torch import Tensor

from dlrm_mtl.balancing.cpu_step import CpuStep
from dlrm_mtl.balancing.exchange.direct_exchange import DirectSum
from dlrm_mtl.balancing.exchange.reduction import PendingGramian, PendingReduction, Reducer
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.step_state import StepState


def take_c_step(step: CpuStep, balancer: Balancer, reducer: Reducer, state: StepState, reduction: str) -> Tensor:
    """The balanced gradient; advances the layer's and the method's state. Collective.

    Args:
        reduction: the layer's; a first step of "delayed" is not taken here.
    """
    num_tasks, measures = balancer.num_tasks, balancer.measures != "nothing"
    delayed = measures and reduction == "delayed"
    alone = not measures or reduction == "local" or reducer.world_size == 1
    losses = None if state.losses is None else state.losses.tolist()
    previous = state.pending if delayed else None
    otherwise = state.coefficients_in_floats() if delayed else None
    if alone:
        combined = step.balance(losses, None if previous is None else previous.values(), otherwise)
    else:
        combined, started = _balance_with_ranks(step, losses, reducer, previous, otherwise)
    decision = step.decision
    if delayed:
        pairs = num_tasks * num_tasks
        state.pending = PendingGramian(num_tasks, decision.gramian[:pairs]) if alone else started
        state.coefficients = decision.coefficients[:num_tasks]
    (balancer.step if decision.finite else balancer.nonfinite_steps).add_(1)
    state.record = decision
    return combined


def _balance_with_ranks(
    step: CpuStep,
    losses: list[float] | None,
    reducer: Reducer,
    previous: PendingReduction | PendingGramian | None,
    otherwise: list[float] | None,
) -> tuple[Tensor, PendingReduction | PendingGramian]:
    """The balanced gradient, by ``previous``, if that is given; and the sum that this step's Gramian goes into."""
    exchange = reducer.exchange(step.pairs)
    scale = float(reducer.world_size**2)
    if exchange is None:
        local = torch.tensor(step.measure(losses), dtype=torch.float64, device="cpu")
        pending = reducer.start(local.view(step.num_tasks, step.num_tasks), 2, None)
        return step.settle((previous or pending).values(), otherwise), pending
    awaited = previous.source if isinstance(previous, PendingGramian) else None
    if previous is not None and not (isinstance(awaited, DirectSum) and awaited.exchange is exchange):
        started = exchange.start([value / scale for value in step.measure(losses)])
        return step.settle(previous.values(), otherwise), PendingGramian(step.num_tasks, started)
    started = exchange.next_sum(step.pairs)
    awaited = awaited if isinstance(awaited, DirectSum) else started
    combined = step.balance_in_exchange(losses, exchange, started.number, awaited.number, scale, otherwise)
    if combined is None:
        combined = step.settle(awaited.wait(), otherwise)
    return combined, PendingGramian(step.num_tasks, started)
