"""Options of the scale study: a hypothetical model and cluster. Free of torch, so that ``--help`` is quick."""

from dataclasses import dataclass
from pathlib import Path

from dlrm_mtl.config import require, require_directory_of, require_positive


@dataclass(frozen=True)
class ScaleCase:
    """What balancing moves and costs per step on a cluster described by latencies and bandwidths. The defaults are a
    DCN v2 on the tables of MLPerf's Criteo-1TB, and round numbers for GPUs of the H100's size with one 400 Gbit/s
    adapter each: assumptions, not measurements."""

    gpus: tuple[int, ...] = (8, 128, 1024)
    """Numbers of GPUs."""
    gpus_per_host: int = 8
    """GPUs that share the fast links."""
    batch_per_gpu: int = 4096
    """Rows per GPU and step."""
    tasks: int = 3
    """M."""
    representation: int = 27 * 128
    """Columns of the shared representation, D."""
    embedding_columns: int = 26 * 128
    """Columns of all pooled embeddings of a row together."""
    lookups: int = 214
    """Table rows looked up per data row."""
    embedding_dim: int = 128
    """Columns of a table row."""
    shared_parameters: int = 11_000_000
    """Dense parameters below the balancing layer: bottom MLP and interaction."""
    head_parameters: int = 5_000_000
    """Dense parameters of one task's head."""
    compute_tflops: float = 200.0
    """Achieved dense compute rate, in TFLOP/s per GPU."""
    memory_gb_s: float = 2000.0
    """Achieved memory bandwidth, in GB/s per GPU."""
    host_gb_s: float = 300.0
    """Achieved bandwidth of collectives between GPUs of a host, in GB/s per GPU and direction."""
    network_gb_s: float = 40.0
    """Achieved bandwidth of collectives between hosts, in GB/s per GPU and direction."""
    host_latency_us: float = 3.0
    """Latency of a hop between GPUs of a host, in microseconds."""
    network_latency_us: float = 10.0
    """Latency of a hop between hosts, in microseconds."""
    peer_overhead_us: float = 0.2
    """Time that each further peer adds to an all-to-all, in microseconds."""
    launch_us: float = 30.0
    """Launches of the small kernels between Gramian and weights, in microseconds."""
    jitter: float = 0.03
    """Relative standard deviation of each rank's compute times, independent from phase to phase."""
    steps: int = 200
    """Number of simulated steps."""
    seed: int = 0
    """Seed of the jitter."""
    json: Path | None = None
    """File for the results, beside the tables on stdout."""

    def __post_init__(self) -> None:
        require_positive(self, "gpus_per_host", "batch_per_gpu", "tasks", "representation", "steps", "embedding_dim")
        require_positive(self, "compute_tflops", "memory_gb_s", "host_gb_s", "network_gb_s")
        for name in (
            *("embedding_columns", "lookups", "shared_parameters", "head_parameters", "jitter", "launch_us"),
            *("host_latency_us", "network_latency_us", "peer_overhead_us"),
        ):
            require(name, getattr(self, name), getattr(self, name) >= 0, "0 or more")
        whole = all(gpus > 0 and (gpus < self.gpus_per_host or gpus % self.gpus_per_host == 0) for gpus in self.gpus)
        require(
            "gpus", self.gpus, bool(self.gpus) and whole, f"whole hosts of {self.gpus_per_host} GPUs, or part of one"
        )
        require_directory_of(self.json)
