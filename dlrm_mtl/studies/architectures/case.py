"""Options of the experiment ``architectures``. Free of torch, so that ``--help`` is quick."""

from dataclasses import dataclass, replace

from dlrm_mtl.config import ExperimentConfig, ModelConfig, require
from dlrm_mtl.quoting import quote
from dlrm_mtl.recipe import parse_options

OPTIONS = ("shared_experts", "own_experts", "levels", "expert_mlp", "gate_mlp", "over_mlp", "head_mlp")
"""Options of the model that an architecture may have for itself."""


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
            self.model_of(architecture)

    def model_of(self, architecture: str) -> ModelConfig:
        """The model's options under one of the architectures.

        Raises:
            ValueError: it is unknown, or an option is unknown or out of range.
        """
        name, options = parse_options("architecture", architecture)
        for option, value in options.items():
            if option not in OPTIONS:
                raise ValueError(
                    f"architecture {quote(architecture)}: option {quote(option)}, expected one of {', '.join(OPTIONS)}"
                )
            sizes = value if isinstance(value, list) else [] if value is None else [value]
            whole = all(type(size) is int for size in sizes)
            if option.endswith("_mlp"):
                options[option] = tuple(sizes)
                require(f"architecture {quote(architecture)}: {option}", value, whole, "sizes, as in 128/64, or none")
            else:
                require(f"architecture {quote(architecture)}: {option}", value, type(value) is int, "a whole number")
        return replace(self.model, sharing=name, **options)
