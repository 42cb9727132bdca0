"""The arms of each experiment. The control is always ``mean``, the paper's vanilla multi-task learning."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from dlrm_mtl.run_config import ExperimentConfig

CONTROL = "mean"
PAPER = "multibalance"
RECOMMENDED = "multibalance_recommended"

WITH_MIX = (
    *(PAPER, "nash_mtl", "imtl_g", "imtl_l+imtl_g", "db_mtl:target=median", "config", "gradcraft", "pe_ltr"),
    *("metabalance", "mtadam", "cagrad", "moco", "sdmgrad", "mgda", "pcgrad", "gradvac", "famo", "dwa", "stch"),
    *("torchjd:UPGrad", "torchjd:FairGrad"),
)
"""Methods that take ``mix``, as their coefficients depend on the batch; without the recommended one."""
WITHOUT_MIX = ("graddrop", "uncertainty", "liebel", "imtl_l")
"""The other methods, but the control and those that it stands for: ``sum``, ``static``."""
PARAMETER_LEVEL_METHODS = ("mgda", "moco")
STEP_SIZES = (0.1, 0.3, 1, 2, 5, 10)
"""Step sizes of Algorithm 3; the paper's Table 4 has those from 1 on."""


@dataclass(frozen=True)
class Study:
    """An experiment."""

    title: str
    question: str
    """The question that it answers, in a sentence."""


STUDIES: Mapping[str, Study] = MappingProxyType(
    {
        "table2": Study(
            "Table 2: representation against parameters",
            "What does balancing by gradients of the shared representation cost and bring, against that by gradients of"
            " shared parameters?",
        ),
        "table3": Study(
            "Table 3: all methods",
            "Which method gains most at the shared representation, and at which task's cost?",
        ),
        "table4": Study("Table 4: step size", "How much depends on the step size of the task weights?"),
        "figure2": Study(
            "Figure 2: learning process",
            "How do gradient norms, task weights and weighted norms develop over training?",
        ),
        "transfer": Study(
            "Negative transfer",
            "What does each task lose or gain by being trained with the others, against a model of its own?",
        ),
        "search": Study(
            "Search of static weights",
            "How many random weightings of the losses must be tried until one is as good, and what do they cost?",
        ),
    }
)

ARCHITECTURES = "architectures"
"""Not one comparison, but one for each architecture."""
FRONT = "front"
"""The same for every method and share of the mean, read as one figure."""
TREES = "trees"
"""Adds an arm to a comparison that is there."""
THEORY = "theory"
"""Not a comparison: measures gradients of trained models, in one process."""
SCALE = "scale"
"""Not a comparison: simulates clusters."""


def study_arms(study: str, config: ExperimentConfig, num_tasks: int) -> tuple[str, ...]:
    """The arms of an experiment, the control first.

    Raises:
        ValueError: no such experiment.
    """
    if study == "table2":
        # The dot interaction has no parameters whose gradients could be balanced.
        levels = ("dense", "embedding") if config.model.interaction == "dot" else ("interaction", "dense", "embedding")
        baselines = [f"{method}:level={level}" for method in PARAMETER_LEVEL_METHODS for level in levels]
        return (CONTROL, *baselines, PAPER, RECOMMENDED)
    if study == "table3":
        return (CONTROL, *WITHOUT_MIX, *WITH_MIX, f"{PAPER}:gamma=1", RECOMMENDED)
    if study == "table4":
        return (CONTROL, *(f"{PAPER}:beta={beta:g}" for beta in STEP_SIZES))
    if study == "figure2":
        return (CONTROL, PAPER, RECOMMENDED)
    if study == "transfer":
        return (CONTROL, "single_task", PAPER, RECOMMENDED)
    if study == "search":
        return (CONTROL, RECOMMENDED, *random_weightings(num_tasks, config.trials))
    raise ValueError(f"experiment {study!r}, expected one of {', '.join(STUDIES)}, all")


def random_weightings(num_tasks: int, trials: int, seed: int = 0) -> list[str]:
    """Arms with static weights, drawn uniformly from the simplex; they sum to 1 like the control's 1/M. Weights that
    are equal after rounding count once."""
    draws = np.random.default_rng(seed).dirichlet(np.ones(num_tasks), size=trials)
    arms = (f"static:weights={'/'.join(f'{weight:.4f}' for weight in draw)}" for draw in draws)
    return list(dict.fromkeys(arms))
