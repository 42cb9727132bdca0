"""Plain float64 references on explicit vectors, written from the formulas and sharing no code with the package."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def project_by_bisection(vector: Array) -> Array:
    """Nearest point of the simplex: the threshold t with sum of max(v - t, 0) = 1, found by halving its interval."""
    low, high = float(vector.max()) - 1, float(vector.max())
    for _ in range(200):
        middle = (low + high) / 2
        if np.maximum(vector - middle, 0).sum() > 1:
            low = middle
        else:
            high = middle
    support = vector > high
    threshold = (vector[support].sum() - 1) / support.sum() if support.any() else high
    return np.maximum(vector - threshold, 0)


@dataclass
class Algorithm3:
    """MultiBalance on M explicit gradients; the state is lambda (weights), u (norms) and the step count."""

    prior: Array
    beta: float | Callable[[int], float] = 1.0
    rho: float = 0.1
    gamma: float = 0.1
    direction: str = "cosine"
    prior_in_direction: float = 0.0
    max_rescale: float | None = None
    weights: Array = field(init=False)
    norms: list[float | None] = field(init=False)
    step: int = 0

    def __post_init__(self) -> None:
        self.weights = self.prior.copy()
        self.norms = [None] * len(self.prior)

    def __call__(self, gradients: Array) -> Array:
        """One step: (M, N) gradients to the balanced gradient (N,)."""
        rescaled = np.array([self._rescale(m, gradient) for m, gradient in enumerate(gradients)])  # rows are v_m
        target = (self.weights + self.rho * self.prior) @ rescaled  # d
        slopes = np.array([self._slope(v, target) for v in rescaled])  # s
        beta = self.beta(self.step) if callable(self.beta) else self.beta
        self.weights = project_by_bisection(self.weights - beta * slopes)
        self.step += 1
        return (self.weights + self.prior_in_direction * self.prior) @ rescaled

    def _rescale(self, m: int, gradient: Array) -> Array:
        norm = float(np.linalg.norm(gradient))
        if norm == 0:
            return np.zeros_like(gradient)
        before = self.norms[m]
        average = norm if before is None else (1 - self.gamma) * before + self.gamma * norm
        self.norms[m] = average
        factor = average / norm
        if self.max_rescale is not None:
            factor = min(factor, self.max_rescale)
        return factor * gradient

    def _slope(self, v: Array, target: Array) -> float:
        product = float(v @ target)
        if self.direction == "gradient":
            return product
        scale = float(np.linalg.norm(v) * np.linalg.norm(target))
        return product / scale if scale > 0 else 0.0
