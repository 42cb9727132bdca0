"""Options of the benchmarks on a data set. Free of torch, so that ``--help`` is quick."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from dlrm_mtl.architecture_options import with_architecture
from dlrm_mtl.config import ModelConfig, require, require_directory_of, require_positive


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Options of all benchmarks, whose contenders take turns of one window each."""

    windows: int = 10
    """Timed windows of each contender, after one that is not counted. Ratios have intervals from six windows on."""
    seconds: float = 2.0
    """Length of a window in seconds."""
    json: Path | None = None
    """File for the results, beside the table on stdout; the table goes to a file of the same name that ends in .md."""

    def __post_init__(self) -> None:
        require("windows", self.windows, self.windows > 0, "at least 1")
        require("seconds", self.seconds, math.isfinite(self.seconds) and self.seconds > 0, "a positive number")
        require_directory_of(self.json)
        if self.json is not None:
            require("json", str(self.json), self.json.suffix == ".json", "a name that ends in .json")


@dataclass(frozen=True, kw_only=True)
class Case(Turns):
    """A benchmark on a data set."""

    data: Path
    """Directory of the data set."""
    batch_size: int = 2048
    """Rows of a batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "batch_size")


@dataclass(frozen=True, kw_only=True)
class ReaderCase(Case):
    """The reader alone in this process, against the default model's training step fed from memory: how many times the
    trainer's consumption does one core read?"""

    seconds: float = 2.0
    """Length of a window in seconds; it should hold several of the reader's shuffles, of 131,072 rows each."""


@dataclass(frozen=True, kw_only=True)
class TrainingCase(Case):
    """A benchmark of training; under torchrun, over all ranks."""

    batch_size: int = 2048
    """Rows of the global batch, over all ranks together."""


@dataclass(frozen=True, kw_only=True)
class CheckpointCase(TrainingCase):
    """Training of two arms with and without a checkpoint being written: what share of QPS do checkpoints cost? Under
    torchrun, over all ranks."""

    windows: int = 30
    """Timed windows with a checkpoint, and as many without, after one of each that is not counted."""
    seconds: float = 1.5
    """Length of a window in seconds, rounded to whole turns of the arms. It should be long enough to write a
    checkpoint, since a window ends only when its checkpoint is written."""
    directory: Path = Path(".")
    """Checkpoints are written below this directory, on its disk, and removed at the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("directory", str(self.directory), self.directory.is_dir(), "a directory that is there")


@dataclass(frozen=True, kw_only=True)
class MethodsCase(TrainingCase):
    """Whole training steps of a model, including reading, under several methods: what does each cost against the first?
    Under torchrun, over all ranks."""

    arms: tuple[str, ...] = (
        *("mean", "multibalance", "multibalance_recommended", "mgda", "pcgrad", "imtl_g", "cagrad"),
        *("graddrop", "nash_mtl", "torchjd:UPGrad"),
    )
    """Methods with options, METHOD:OPTION=VALUE,...; the first one is the control."""
    steps: int = 20
    """Steps of a window, at least 2. The last one, which is recorded for the logs, is not timed."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The model that all arms train."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("steps", self.steps, self.steps > 1, "at least 2")


@dataclass(frozen=True, kw_only=True)
class ArchitecturesCase(TrainingCase):
    """Whole training steps under several architectures, including reading: what do experts cost in QPS and memory, and
    what does balancing cost under each? Under torchrun, over all ranks."""

    architectures: tuple[str, ...] = ("bottom", "mmoe", "cgc", "ple", "adatt", "cross_stitch", "stem")
    """What --model.sharing may name, each maybe with options of the model for itself, as in
    mmoe:shared_experts=8,head_mlp=64."""
    arms: tuple[str, ...] = ("mean", "multibalance")
    """Methods with options, METHOD:OPTION=VALUE,...; the first one, under the first architecture, is the control."""
    steps: int = 20
    """Steps of a window, at least 2. The last one, which is recorded for the logs, is not timed."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Options that the architectures share."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("steps", self.steps, self.steps > 1, "at least 2")
        different = 0 < len(set(self.architectures)) == len(self.architectures)
        require("architectures", self.architectures, different, "different architectures")
        for architecture in self.architectures:
            with_architecture(self.model, architecture)


@dataclass(frozen=True, kw_only=True)
class LoopCase(TrainingCase):
    """Training end to end, including reading: this project's loop against a well-tuned plain TorchRec loop on the same
    model and data, and against one with the structure of the public torchrec_dlrm script. Under torchrun, over all
    ranks."""


@dataclass(frozen=True, kw_only=True)
class OverheadCase(TrainingCase):
    """An arm that takes turns with another one, as in a comparison, against the same arm alone: what does a comparison
    cost beyond training each arm by itself? Under torchrun, over all ranks."""


@dataclass(frozen=True, kw_only=True)
class ProfileCase(TrainingCase):
    """Where the time of a training step goes, by torch's profiler, in a well-tuned plain TorchRec loop and in some
    arms. Under torchrun, on the first rank."""

    windows: int = 5
    """Profiled windows of each contender, of ten steps, after one that is not counted."""
    arms: tuple[str, ...] = ("mean", "multibalance")
    """Methods with options, METHOD:OPTION=VALUE,..."""


@dataclass(frozen=True, kw_only=True)
class ServingCase(Turns):
    """Predictions of a trained model on one core: its modules in PyTorch against its exports, with float and with int8
    tables, loaded by PyTorch and compiled."""

    seconds: float = 0.5
    """Length of a window in seconds."""
    checkpoint: Path
    """RUN (its newest checkpoint), RUN/seed-S or RUN/checkpoints/step-N."""
    data: Path
    """Directory of a data set whose eval split is predicted."""
    arm: str | None = None
    """Arm, as it was given to the run; by default its first."""
    batch_sizes: tuple[int, ...] = (1, 32, 512, 4096)
    """Rows of a call."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "batch_sizes")
