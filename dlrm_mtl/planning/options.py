"""The options of the plan. Imports no torch, so that ``--help`` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dlrm_mtl.config import (
    ModelConfig,
    OptimizerConfig,
    ShardingConfig,
    require,
    require_directory_of,
    require_positive,
)
from dlrm_mtl.location import Location
from dlrm_mtl.planning.presets import PresetName
from dlrm_mtl.units import parse_bandwidth, parse_size


@dataclass(frozen=True)
class PlanConfig:
    """Plans the embedding tables over a hypothetical cluster, and says whether they fit, on how many hosts, and
    what torchrec's cost model expects. Runs on one core without a GPU; exit code 1: the plan does not fit."""

    data: Location | None = None
    """Directory of the data set, of which only schema.json is read."""
    preset: PresetName | None = None
    """Instead of a data set: criteo-1tb is MLPerf's DLRM-DCNv2, with its model options and batch size unless others
    are given."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Where the tables are trained. On a CPU ranks share the host's memory, and hbm has no meaning."""
    hosts: int = 1
    """Number of hosts."""
    gpus_per_host: int = 8
    """GPUs per host, one rank each; with device cpu, ranks per host."""
    hbm: str = "80GiB"
    """Memory of a GPU. What the driver reports is less than the name says: 79.1GiB of an H100 of 80 GB."""
    ddr: str = "1TiB"
    """Memory of a host; the default is torchrec's 128 GiB times 8 ranks."""
    hbm_bandwidth: str = "897GiB/s"
    """Of a GPU's memory; the default is torchrec's, that of a V100."""
    intra_host_bandwidth: str = "600GiB/s"
    """Between the GPUs of a host; the default is torchrec's."""
    inter_host_bandwidth: str = "12.5GiB/s"
    """Of one GPU to other hosts; the default is torchrec's, a network port of 100 Gbit/s per GPU."""
    batch_size: int = 2048
    """Rows of the global batch, over all ranks together."""
    json: Path | None = None
    """File for the whole plan and all figures, beside the summary on stdout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    sharding: ShardingConfig = field(default_factory=ShardingConfig)

    def check(self) -> None:
        """Checks values and combinations of options.

        Raises:
            ValueError: a size or bandwidth without a unit, both or neither of data and preset, ranks that do not divide
                the batch, no directory for the file.
        """
        sources = [name for name in ("data", "preset") if getattr(self, name) is not None]
        require("data, preset", sources, len(sources) == 1, "one of the two: a data set or the name of a preset")
        require_positive(self, "hosts", "gpus_per_host", "batch_size")
        for name in ("hbm", "ddr"):
            parse_size(name, getattr(self, name))
        for name in ("hbm_bandwidth", "intra_host_bandwidth", "inter_host_bandwidth"):
            parse_bandwidth(name, getattr(self, name))
        self.local_batch_size(self.hosts)
        require_directory_of(self.json)

    def divides(self, hosts: int) -> bool:
        """Whether the ranks of so many hosts divide the global batch."""
        return self.batch_size % (hosts * self.gpus_per_host) == 0

    def local_batch_size(self, hosts: int) -> int:
        """Rows of one rank's part of the global batch.

        Raises:
            ValueError: the ranks do not divide the batch.
        """
        ranks = hosts * self.gpus_per_host
        require("batch_size", self.batch_size, self.divides(hosts), f"a multiple of the {ranks} ranks")
        return self.batch_size // ranks
