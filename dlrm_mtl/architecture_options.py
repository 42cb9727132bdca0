"""An architecture with options of the model for itself, as ``mmoe:shared_experts=8,head_mlp=64``."""

from dataclasses import replace

from dlrm_mtl.config import ModelConfig, require
from dlrm_mtl.quoting import quote
from dlrm_mtl.recipe import parse_options

OPTIONS = ("shared_experts", "own_experts", "levels", "expert_mlp", "gate_mlp", "over_mlp", "head_mlp")
"""Options of the model that an architecture may have for itself."""


def with_architecture(model: ModelConfig, architecture: str) -> ModelConfig:
    """The model under an architecture.

    Args:
        architecture: a value of ``model.sharing``, maybe with options.

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
    return replace(model, sharing=name, **options)
