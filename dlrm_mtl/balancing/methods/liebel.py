"""Liebel & Koerner, "Auxiliary Tasks in Multi-task Learning", 2018, arXiv:1805.06334."""

from torch import Tensor
from torch.nn.functional import softplus

from dlrm_mtl.balancing.methods.uncertainty import Uncertainty


class RevisedUncertainty(Uncertainty):
    """f / (2 sigma^2) + ln(1 + sigma^2), with s = ln sigma^2 and so sigma = 1 at the start.

    Unlike that of :class:`Uncertainty`, its second term is never negative. Optimal weights 2 / (f + sqrt(f^2 + 8 f)).
    """

    def forward(self, losses: Tensor) -> Tensor:
        return self.weights() * losses + softplus(self.stacked())
