"""Measure, the first stage of a step: what the method needs to know of one rank's gradients and losses."""

import math
from functools import reduce
from operator import and_

import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array
from dlrm_mtl.balancing.algebra.finite import all_finite, are_finite, choose, none_holds, readable, readable_on_host
from dlrm_mtl.balancing.kernels.cuda_graphs import CapturedStages
from dlrm_mtl.balancing.kernels.empty_tasks import cut_silent_tasks, zero_where_empty
from dlrm_mtl.balancing.kernels.gradients import CutGradients, tensors_of
from dlrm_mtl.balancing.kernels.gramian import cut_inner_products, gramian_of
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.replay import compute
from dlrm_mtl.balancing.methods.whole_gradients import measures_by_default
from dlrm_mtl.balancing.step import Measurement, StepState


def measure(balancer: Balancer, cut: CutGradients, step: StepState, captured: CapturedStages) -> Measurement:
    """The statistic of M gradients at each tensor of the cut, with the losses of the step."""
    device = next(tensors_of(cut), balancer.step).device
    measured: Array | None = None
    observes = step.observe and balancer.measures_now == "nothing" and balancer.measures != "pooled"
    if observes or (balancer.measures_now == "gramian" and measures_by_default(balancer)):
        measured = cut_inner_products(cut, balancer.num_tasks, device)
    elif balancer.measures_now != "nothing":
        measured = readable(balancer.measure_cut(cut, device))
    losses, silent = step.losses, None
    if losses is not None:
        silent = _silent_tasks(balancer, cut, losses)
        losses = readable(losses.double())
    return compute(_measurement, balancer, captured, measured, losses, silent)


def _silent_tasks(balancer: Balancer, cut: CutGradients, losses: Tensor) -> Array | None:
    """(M,) bool, tasks without a gradient, whose NaN loss means that they have no row. None where the Gramian tells
    them, where the host reads that no loss is NaN, and on a GPU for methods that depend on nothing."""
    if balancer.measures_now == "gramian":
        return None
    if losses.is_cuda and not balancer.depends_on_batch_now:
        return None
    if readable_on_host(losses) and not any(map(math.isnan, losses.tolist())):
        return None
    return readable(cut_silent_tasks(cut, losses.device))


def _measurement(measured: Array | None, losses: Array | None, silent: Array | None, balancer: Balancer) -> Measurement:
    """The statistic and losses of this rank, and which tasks are finite."""
    num_tasks = balancer.num_tasks
    of_tasks = None  # (M,), not finite where a task's gradient is not
    if measured is None:
        statistic = readable(torch.zeros(num_tasks, num_tasks, dtype=torch.float64, device=balancer.step.device))
    else:
        statistic = gramian_of(measured, num_tasks)
        of_tasks = statistic.sum(axis=1) if balancer.measures == "pooled" else statistic.diagonal()
    unsure = []  # values of the tasks that may not be finite
    if losses is not None and all_finite(losses) is not True:
        silent = of_tasks == 0 if silent is None and of_tasks is not None else silent
        losses = losses if silent is None else zero_where_empty(losses, silent)
        unsure.append(losses)
    if of_tasks is not None and all_finite(of_tasks) is not True:
        unsure.append(of_tasks)
    if not unsure:
        return Measurement(statistic, losses, True, None)
    nonfinite = ~reduce(and_, map(are_finite, unsure))
    finite = none_holds(nonfinite)
    if measured is not None or balancer.needs_losses:
        statistic = choose(finite, statistic, torch.nan)
    if isinstance(losses, Tensor) and silent is None and of_tasks is None:
        # A task with a NaN loss has diverged, or has no row. Its gradient, which is passed on, tells which.
        finite = ~losses.isinf().any()
    return Measurement(statistic, losses, finite, nonfinite)
