"""Decomposes a batch's parameter gradient by equation 8, and tries weights from one gradient on another."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dlrm_mtl.balancing import min_norm_point
from dlrm_mtl.studies.population import BatchGradients, Population

TARGETS = {"dense": ("dense",), "tables": ("tables",), "all": ("dense", "tables")}
"""Shared parameters whose gradients are examined: dense part, tables, both."""


@dataclass(frozen=True)
class Decomposition:
    """Equation 8 at uniform task weights lambda; each mapping is by target."""

    parameter: Mapping[str, Tensor]
    """Parameter gradient weighted by lambda."""
    mean_term: Mapping[str, Tensor]
    """E[J]' times the pooled representation gradient weighted by lambda."""

    @classmethod
    def of(cls, population: Population, gradients: BatchGradients) -> "Decomposition":
        """The decomposition for a batch; the expectation E is over the population."""
        dense, tables = population.mean_jacobian_product(gradients.pooled.mean(dim=0))
        return cls(
            _by_target({"dense": gradients.dense.mean(dim=0), "tables": gradients.tables.mean(dim=0)}),
            _by_target({"dense": dense, "tables": tables}),
        )

    def residual(self, target: str) -> Tensor:
        """R_B of equation 9."""
        return self.parameter[target] - self.mean_term[target]

    def measure(self, limit: "Decomposition") -> dict[str, dict[str, float]]:
        """By target: R_B's norm over the parameter gradient's; the cosine of the mean term with the parameter gradient;
        R_B's distance from its mean, over the mean's norm.

        Args:
            limit: the decomposition of the whole population, whose residual is the mean of R_B over all batches.
        """
        measured = {}
        for target, parameter in self.parameter.items():
            residual, mean = self.residual(target), limit.residual(target)
            measured[target] = {
                "relative_norm": float(residual.norm() / parameter.norm()),
                "cosine_of_mean_term": cosine(self.mean_term[target], parameter),
                "distance_from_mean": float((residual - mean).norm() / mean.norm()),
            }
        return measured


def try_weights(gradients: BatchGradients) -> dict[tuple[str, str], dict[str, float]]:
    """How well weights from several sources (flattened or pooled representation gradients, the dense part's gradients,
    none: uniform) agree with the min-norm weights lambda* of each target's own gradients.

    Tasks without a gradient in this batch are left out, as the balancing layer does.

    Returns:
        cosine and total variation distance of the two weight vectors, and ``excess``: the norm of the target's weighted
        gradient under these weights over that under lambda*, at least 1 up to rounding.
    """
    dense, tables = (part @ part.T for part in (gradients.dense, gradients.tables))
    of_targets = {"dense": dense, "tables": tables, "all": dense + tables}
    active = gradients.flattened.diagonal() > 0
    uniform = active.double() / active.sum()
    candidates = {
        "flattened": min_norm_point(gradients.flattened, active),
        "pooled": min_norm_point(gradients.pooled @ gradients.pooled.T, active),
        "dense": min_norm_point(dense, active),
        "uniform": uniform,
    }
    tried = {}
    for target, gramian in of_targets.items():
        best = min_norm_point(gramian, active)
        least = (best @ gramian @ best).sqrt()
        for name, weights in candidates.items():
            if name != target:
                excess = float((weights @ gramian @ weights).sqrt() / least)
                tried[target, name] = {**compare_weights(weights, best), "excess": excess}
    return tried


def compare_weights(weights: Tensor, others: Tensor) -> dict[str, float]:
    """Cosine and total variation distance, half the sum of absolute differences, of two weight vectors (M,)."""
    return {"cosine": cosine(weights, others), "total_variation": float((weights - others).abs().sum() / 2)}


def cosine(a: Tensor, b: Tensor) -> float:
    """0 if either is zero."""
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0, eps=torch.finfo(a.dtype).tiny))


def _by_target(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {target: torch.cat([parts[name] for name in names]) for target, names in TARGETS.items()}
