"""Options of the theory study. Free of torch, so that ``--help`` is quick."""

from dataclasses import dataclass, field
from pathlib import Path

from dlrm_mtl.config import ModelConfig, require, require_directory_of, require_positive


@dataclass(frozen=True)
class TheoryCase:
    """How far representation gradients stand in for parameter gradients on one data set (the paper's section 4.2)."""

    data: Path
    """Directory of the data set."""
    steps: int = 200
    """Training steps before gradients are measured."""
    train_batch_size: int = 2048
    """Rows of a training batch."""
    population: int = 32768
    """Number of training rows that stand for the distribution: batches are drawn from them, expectations taken over
    them."""
    batch_sizes: tuple[int, ...] = (64, 256, 1024, 4096, 8192)
    """Batch sizes at which gradients are measured."""
    batches: int = 10
    """Number of batches of each size and seed."""
    seeds: int = 3
    """Number of trained models, with seeds 0, 1, ..."""
    method: str = "multibalance:beta=0.1"
    """Method whose learned weights are compared between levels."""
    log_every: int = 10
    """Steps between two records of the learned weights."""
    json: Path | None = None
    """File for the results, beside the tables on stdout."""
    model: ModelConfig = field(default_factory=ModelConfig)

    def __post_init__(self) -> None:
        require_positive(self, "steps", "train_batch_size", "population", "batches", "seeds", "log_every")
        require("model.sharing", self.model.sharing, self.model.sharing == "bottom", "bottom, as in the paper")
        valid = bool(self.batch_sizes) and all(0 < size <= self.population for size in self.batch_sizes)
        require("batch_sizes", self.batch_sizes, valid, f"sizes from 1 to the population's {self.population} rows")
        require_directory_of(self.json)
        require("log_every", self.log_every, self.steps % self.log_every == 0, f"a divisor of the {self.steps} steps")
