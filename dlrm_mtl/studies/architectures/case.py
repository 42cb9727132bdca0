"""Options of the experiment ``architectures``. Free of torch, so that ``--help`` is quick."""

from dataclasses import dataclass

from dlrm_mtl.architecture_options import with_architecture
from dlrm_mtl.config import require
from dlrm_mtl.run_config import ExperimentConfig


@dataclass(frozen=True)
class ArchitecturesConfig(ExperimentConfig):
    """Compares the same arms under several sharing architectures, one comparison for each."""

    architectures: tuple[str, ...] = ("bottom", "mmoe", "cgc", "ple", "adatt", "cross_stitch", "stem")
    """What --model.sharing may name, each maybe with options of the model for itself, as in
    mmoe:shared_experts=8,head_mlp=64 (several layers: 128/64). Gains are also taken over the first one's control."""
    arms: tuple[str, ...] = (
        *("mean", "multibalance", "multibalance_recommended", "nash_mtl", "imtl_g"),
        "single_task",
    )
    """Balancing methods with options, METHOD:OPTION=VALUE,...; the first one is the control."""
    match_parameters: bool = True
    """Scale the layer sizes in expert_mlp, by one factor per architecture, so that it has about as many dense
    parameters as the first architecture."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("architectures", "arms"):
            value = getattr(self, name)
            require(name, value, len(value) > 0, "at least one")
            require(name, value, len(set(value)) == len(value), f"different {name}")
        require("arms", self.arms, len(self.arms) > 1, "the control and at least one other arm")
        for architecture in self.architectures:
            with_architecture(self.model, architecture)
