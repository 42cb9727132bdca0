"""Options of the benchmarks that need no data set. Free of torch, so that ``--help`` is quick."""

from dataclasses import dataclass
from typing import Literal

from dlrm_mtl.benchmarks.cases import Turns
from dlrm_mtl.config import require, require_positive

Dtype = Literal["float32", "bfloat16"]
Axis = Literal["tasks", "dim", "batch", "tables", "ranks"]


@dataclass(frozen=True, kw_only=True)
class SyntheticCase(Turns):
    """A benchmark on random tensors or simulated ranks, with short windows."""

    windows: int = 6
    """Timed windows of each contender, after one that is not counted."""


@dataclass(frozen=True, kw_only=True)
class LayerCase(SyntheticCase):
    """The balancing layer's backward alone, in this process, against autograd's accumulation for the sum of the losses,
    and against the time that memory needs for the layer's bytes."""

    seconds: float = 0.1
    """Length of a window in seconds."""
    method: str = "multibalance"
    """The layer's balancing method."""
    tasks: tuple[int, ...] = (2, 3, 8)
    """Numbers of tasks M."""
    dims: tuple[int, ...] = (128, 512, 2048)
    """Widths D of the representation."""
    batch_sizes: tuple[int, ...] = (1024, 4096, 16384, 65536)
    """Rows B of a batch."""
    dtypes: tuple[Dtype, ...] = ("float32", "bfloat16")
    """Data types of the gradients."""
    max_elements: int = 1 << 24
    """Points of the grid with more elements B D than this are left out, and named."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "tasks", "dims", "batch_sizes")
        require("dtypes", self.dtypes, len(self.dtypes) > 0, "at least one")
        fits = min(self.dims) * min(self.batch_sizes) <= self.max_elements
        require("max_elements", self.max_elements, fits, "room for the smallest point of the grid")


@dataclass(frozen=True, kw_only=True)
class PeersCase(SyntheticCase):
    """One training step of a multi-layer perceptron with M heads, in this process: the balancing layer against
    TorchJD's mtl_backward and against balancing by hand on a detached representation."""

    seconds: float = 1.0
    """Length of a window in seconds."""
    tasks: tuple[int, ...] = (3, 8)
    """Numbers of tasks M."""
    batch_size: int = 2048
    """Rows of a batch."""
    width: int = 512
    """Width of the input, the layers and the representation."""
    layers: int = 4
    """Layers of the shared bottom."""
    head: int = 64
    """Width of the hidden layer of each task's head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "tasks", "batch_size", "width", "layers", "head")


@dataclass(frozen=True, kw_only=True)
class ExpertsCase(PeersCase):
    """One training step of an MMoE in this process: the balancing layer at its cut against the unbalanced sum, against
    the layer with experts as a plain tensor, and against TorchJD's mtl_backward."""

    layers: int = 2
    """Layers of the shared bottom."""
    experts: int = 8
    """Experts K."""
    expert_mlp: tuple[int, ...] = (256, 128)
    """Layer sizes of each expert."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "experts", "expert_mlp")


@dataclass(frozen=True, kw_only=True)
class GrowthCase(SyntheticCase):
    """Training steps on batches from memory while one quantity of the model or job grows: steps per second with and
    without balancing, relative to the base model's in the same windows."""

    seconds: float = 0.3
    """Length of a window in seconds."""
    axes: tuple[Axis, ...] = ("tasks", "dim", "batch", "tables", "ranks")
    """Quantities that grow. The base model is always measured."""
    tasks: tuple[int, ...] = (1, 2, 3, 4, 8, 16)
    """Numbers of tasks M."""
    dim: tuple[int, ...] = (8, 16, 32, 64, 128)
    """Embedding dimensions D."""
    batch: tuple[int, ...] = (256, 1024, 2048, 8192)
    """Rows of the global batch."""
    tables: tuple[int, ...] = (4, 8, 16, 32)
    """Numbers of tables."""
    ranks: tuple[int, ...] = (1, 2, 4)
    """Numbers of processes on this machine; each is a job of its own, so they do not take turns."""
    base_tasks: int = 3
    """M of the base model."""
    base_dim: int = 16
    """D of the base model."""
    base_batch: int = 2048
    """Global batch of the base model."""
    base_tables: int = 8
    """Tables of the base model."""
    table_rows: int = 100_000
    """Rows of each table."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "tasks", "dim", "batch", "tables", "ranks")
        require_positive(self, "base_tasks", "base_dim", "base_batch", "base_tables", "table_rows")
        for name, dims in (("dim", self.dim), ("base_dim", (self.base_dim,))):
            require(name, getattr(self, name), all(dim % 4 == 0 for dim in dims), "multiples of 4")


@dataclass(frozen=True, kw_only=True)
class WatchCase(Turns):
    """CPU time of rank 0's watch over a job of many ranks, which another process simulates."""

    windows: int = 5
    """Number of windows, after one that is not counted."""
    seconds: float = 10.0
    """Length of a window in seconds; it should hold several reports of every rank."""
    ranks: int = 1024
    """Ranks of the job."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("ranks", self.ranks, self.ranks > 1, "at least 2")
