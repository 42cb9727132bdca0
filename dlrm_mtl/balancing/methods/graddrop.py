"""GradDrop (Chen et al., "Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout", NeurIPS
2020)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, require_option, require_seed, uniform_weights

CHUNK_ELEMENTS = 1 << 15
"""Elements of a chunk on a CPU, whose intermediate results stay in the cache."""


class GradDrop(Balancer):
    """Each element keeps the gradients of one sign, drawn with a probability that is the share of that sign.

    Elementwise over (B, D), with P = (1 + sum g / sum |g|) / 2 and U uniform in [0, 1)::

        gradient = (1/M) sum over m of (leak + (1 - leak) [sign(g_m) is kept]) g_m
        kept: positive where P > U, negative where P <= U

    Rows are independent, so nothing is reduced over ranks. U is a function of (seed, rank, step). Where all signs
    agree, the result is the mean.

    Args:
        leak: share of every gradient that always passes.
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
        require_seed(self, seed)
        self.leak = leak
        self.seed = seed
        self.weights: Tensor
        self.register_buffer("weights", uniform_weights(num_tasks), persistent=False)
        # All steps, counted on the host, which seeds the generator.
        self._steps = 0

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        self._steps += 1
        return self.weights.clone(), {}

    def apply_coefficients(self, gradients: Sequence[Tensor | None], coefficients: Tensor) -> Tensor | None:
        present = [gradient for gradient in gradients if gradient is not None]
        if not present:
            return None
        generator = self._generator(present[0].device)
        size = CHUNK_ELEMENTS if present[0].device.type == "cpu" else max(present[0].numel(), 1)
        chunks = zip(*(gradient.reshape(-1).split(size) for gradient in present), strict=True)
        dropped = torch.cat([self._drop(chunk, generator) for chunk in chunks])
        return dropped.view(present[0].shape)

    def _drop(self, gradients: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        """The balanced gradient of some elements, (N,) each."""
        dtype = torch.promote_types(gradients[0].dtype, torch.float32)
        total, positive = gradients[0].to(dtype, copy=True), gradients[0].clamp(min=0).to(dtype)
        for gradient in gradients[1:]:
            total += gradient
            positive += gradient.clamp(min=0)
        negative = total - positive
        magnitude = positive - negative
        # P > U without a division by zero: 1 where the positive parts are kept.
        drawn = _uniform(positive, generator).mul_(magnitude)
        kept = torch.lt(drawn, positive, out=drawn)
        # A sum instead of where(), so that NaN and infinity are passed on: 0 times infinity is NaN.
        dropped = torch.addcmul(negative, kept, magnitude)
        if self.leak:
            dropped = torch.lerp(dropped, total, self.leak)
        return dropped.div_(self.num_tasks).to(gradients[0].dtype)

    def task_weights(self) -> Tensor:
        return self.weights

    def _generator(self, device: torch.device) -> torch.Generator:
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        step = self._steps - 1
        # Odd multipliers keep (seed, rank, step) apart; the generator hashes its seed.
        mixed = (self.seed * 0x9E3779B97F4A7C15 + rank * 0xC2B2AE3D27D4EB4F + step * 0x165667B19E3779F9) % (1 << 63)
        return torch.Generator(device).manual_seed(mixed)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self._steps = 0

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        if not self.step.is_meta:
            self._steps = int(self.step) + int(self.nonfinite_steps)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform in (0, 1), in steps of 2^-16: four numbers from each draw of 64 bits, to save time."""
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    words.random_(-(1 << 63), None, generator=generator)
    numbers = words.view(torch.int16)[: like.numel()].to(like.dtype)
    return numbers.add_(32768.5).mul_(2.0**-16)
