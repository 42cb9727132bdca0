"""Numbers for the logs about the balancing layer's last step."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from dlrm_mtl.balancing import BalancingLayer, ParameterLevelLayer, min_norm_point
from dlrm_mtl.module_names import unescape
from dlrm_mtl.run_directory import pair_name


def balancing_diagnostics(layer: BalancingLayer | ParameterLevelLayer) -> dict[str, Any]:
    """Task weights, coefficients, gradient norms before and after weighting, cosines, Pareto gap of the last step.
    Synchronises.

    All refer to the gradients g_m of the global batch with respect to the shared representation. The Pareto gap is the
    norm of the smallest convex combination of them (definition 2 of the paper): 0 at a Pareto-stationary point. Task
    weights are the method's own, such as lambda; coefficients are the factors of the gradients.
    """
    record = layer.record
    if record is None:
        return {}
    names = [unescape(task) for task in layer.balancer.task_names]
    gramian = record.gramian.cpu()
    norms = gramian.diagonal().clamp(min=0).sqrt()
    values: dict[str, Any] = {
        "task_weights": _by_task(names, record.task_weights),
        "coefficients": _by_task(names, record.coefficients),
        "gradient_norms": _by_task(names, norms),
        "weighted_gradient_norms": _by_task(names, norms * record.coefficients.cpu().abs()),
        "nonfinite_steps": int(layer.balancer.nonfinite_steps),
    }
    scale = torch.outer(norms, norms)
    cosines = torch.where(scale > 0, gramian / torch.where(scale > 0, scale, 1.0), 0.0)
    values["cosines"] = {
        pair_name(names[i], names[j]): _number(cosines[i, j]) for i, j in itertools.combinations(range(len(names)), 2)
    }
    finite = bool(torch.isfinite(gramian).all())
    if finite:
        weights = min_norm_point(gramian)
        values["pareto_gap"] = float((weights @ gramian @ weights).clamp(min=0).sqrt())
    return values


def _by_task(names: Sequence[str], values: torch.Tensor) -> dict[str, float | None]:
    return {name: _number(value) for name, value in zip(names, values, strict=True)}


def _number(value: torch.Tensor) -> float | None:
    """JSON has no NaN."""
    return float(value) if torch.isfinite(value) else None
