"""Times of collectives in a latency-bandwidth model: a message of n bytes takes latency + n / bandwidth.

Hosts of g GPUs with fast links, one network adapter per GPU. Times in seconds, sizes in bytes per GPU.
"""

import math
from dataclasses import dataclass

from dlrm_mtl.studies.scale_case import ScaleCase


@dataclass(frozen=True)
class Interconnect:
    """The links of a cluster of ``gpus`` GPUs."""

    case: ScaleCase
    gpus: int

    @property
    def local(self) -> int:
        """Number of GPUs of a host."""
        return min(self.gpus, self.case.gpus_per_host)

    @property
    def hosts(self) -> int:
        return self.gpus // self.local

    def all_to_all(self, size: float) -> float:
        """Seconds in which each GPU sends ``size`` bytes in equal parts to all GPUs, itself included; both kinds of
        links work at the same time."""
        inside = size * (self.local - 1) / self.gpus / (1e9 * self.case.host_gb_s)
        outside = size * (self.hosts - 1) / self.hosts / (1e9 * self.case.network_gb_s)
        return max(inside, outside) + self._hop() + 1e-6 * self.case.peer_overhead_us * (self.gpus - 1)

    def all_reduce(self, size: float) -> float:
        """Seconds for ``size`` bytes: reduce-scatter inside hosts, ring or tree between hosts for each GPU's part,
        all-gather inside hosts."""
        inside = 2 * size * (self.local - 1) / self.local / (1e9 * self.case.host_gb_s)
        outside = 2 * size / self.local * (self.hosts - 1) / self.hosts / (1e9 * self.case.network_gb_s)
        return inside + outside + self._tree()

    def _hop(self) -> float:
        latency = self.case.network_latency_us if self.hosts > 1 else self.case.host_latency_us
        return 1e-6 * latency if self.gpus > 1 else 0.0

    def _tree(self) -> float:
        """Up a binary tree and down again."""
        inside = self.case.host_latency_us * math.ceil(math.log2(self.local))
        outside = self.case.network_latency_us * math.ceil(math.log2(self.hosts))
        return 2e-6 * (inside + outside)
