"""GradDrop (Chen et al., "Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout", NeurIPS
2020)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.balancer import Balancer
from dlrm_mtl.balancing.options import is_number, require_option


class GradDrop(Balancer):
    """Each element keeps the gradients of one sign, drawn with the probability of that sign's share.

    Elementwise over (B, D), with P = (1 + sum g / sum |g|) / 2 and U uniform in [0, 1)::

        gradient = (1/M) sum over m of (leak + (1 - leak) [sign(g_m) is kept]) g_m
        kept: positive where P > U, negative where P < U

    Rows are independent, so that ranks need not agree: each draws its own U. Where all signs agree, the mean.

    Args:
        leak: share of every gradient that passes in any case.
        seed: of the draws.

    Raises:
        ValueError: an option out of its range.
    """

    measures = "nothing"

    def __init__(
        self, num_tasks: int, leak: float = 0.0, seed: int = 0, task_names: Sequence[str] | None = None
    ) -> None:
        super().__init__(num_tasks, task_names)
        require_option(self, "leak", leak, is_number(leak) and 0 <= leak <= 1, "a number in [0, 1]")
        self.leak = leak
        self.seed = seed
        self.weights: Tensor
        self.register_buffer("weights", torch.full((num_tasks,), 1 / num_tasks).double(), persistent=False)
        self._generator: torch.Generator | None = None

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        return self.weights, {}

    def apply_coefficients(self, gradients: Sequence[Tensor | None], coefficients: Tensor) -> Tensor | None:
        present = [gradient for gradient in gradients if gradient is not None]
        if not present:
            return None
        total = torch.zeros_like(present[0], dtype=torch.promote_types(present[0].dtype, torch.float32))
        magnitude = torch.zeros_like(total)
        for gradient in present:
            total += gradient
            magnitude += gradient.abs()
        purity = torch.where(magnitude > 0, 0.5 * (1 + total / torch.where(magnitude > 0, magnitude, 1.0)), 0.5)
        drawn = torch.rand(total.shape, dtype=total.dtype, device=total.device, generator=self._draws(total.device))
        keep_positive = purity > drawn
        combined = torch.zeros_like(total)
        for gradient in present:
            kept = torch.where(keep_positive, gradient.clamp(min=0), gradient.clamp(max=0))
            combined += self.leak * gradient + (1 - self.leak) * kept
        # A gradient that is not finite must reach the GradScaler: comparisons would drop it.
        combined = torch.where(torch.isfinite(total), combined, total)
        return (combined / self.num_tasks).to(present[0].dtype)

    def task_weights(self) -> Tensor:
        return self.weights

    def _draws(self, device: torch.device) -> torch.Generator:
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device).manual_seed(self.seed)
        return self._generator
