"""Options of the experiment ``front``. Free of torch, so that ``--help`` is quick."""

from dataclasses import dataclass

from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_config import ExperimentConfig, shared_options
from dlrm_mtl.studies.architectures.case import ArchitecturesConfig
from dlrm_mtl.studies.catalog import CONTROL, RECOMMENDED, WITH_MIX, WITHOUT_MIX

SHARES = (0, 0.25, 0.5, 1)
"""How much of the mean is added to a method."""


@dataclass(frozen=True)
class FrontConfig(ExperimentConfig):
    """Compares methods and how much of the mean is added to them, by average gain and by the worst task's gain."""

    architectures: tuple[str, ...] = ("bottom",)
    """As of the experiment architectures. Gains are over the first one's control."""
    arms: tuple[str, ...] = ()
    """Balancing methods with options, METHOD:OPTION=VALUE,...; the first one is the control. By default mean, and every
    method with mix=0, 0.25, 0.5 and 1 and with fade_share=1 where it has these options; multibalance_recommended with
    prior_in_direction."""
    match_parameters: bool = True
    """As of the experiment architectures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.comparisons()

    def comparisons(self) -> ArchitecturesConfig:
        """The comparisons that the front is taken from.

        Raises:
            ValueError: see :class:`ArchitecturesConfig`.
        """
        options = shared_options(self, ArchitecturesConfig)
        return ArchitecturesConfig(**{**options, "arms": self.arms or front_arms()})


def front_arms() -> tuple[str, ...]:
    """The control, and every method with every share of the mean that it can have."""
    recommended = (_with_option(RECOMMENDED, "prior_in_direction", share) for share in SHARES)
    mixed = (_with_option(method, "mix", share) if share else method for method in WITH_MIX for share in SHARES)
    fading = (_with_option(method, "fade_share", 1) for method in (RECOMMENDED, *WITH_MIX))
    return (CONTROL, *recommended, *mixed, *fading, *WITHOUT_MIX)


def _with_option(arm: str, option: str, value: float) -> str:
    return f"{arm}{',' if parse_recipe(arm).options else ':'}{option}={value:g}"
