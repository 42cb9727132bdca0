"""Trains the arms of a comparison from several seeds, one after the other."""

from collections.abc import Callable, Collection, Mapping, Sequence

from dlrm_mtl.ending import Terminated
from dlrm_mtl.training.checkpoints import remove_checkpoints, require_checkpoint
from dlrm_mtl.training.interruption import termination_requested
from dlrm_mtl.training.loop import ArmResult, train_arms
from dlrm_mtl.training.session import Session

SaveResults = Callable[[int, Mapping[str, ArmResult]], None]
"""Writes the results of one seed, by arm."""


def train_seeds(
    session: Session, arms: Sequence[str], seeds: Collection[int], save: SaveResults, keep_models: bool
) -> None:
    """Trains the arms from every seed. A seed's checkpoints are removed once its results are saved. Collective.

    Args:
        save: called on rank 0 after each seed.
        keep_models: keep each seed's last checkpoint.

    Raises:
        ValueError: a model that is to be kept could not be written.
        Terminated: when a rank was told to end by SIGTERM.
    """
    ranks = session.ranks
    session.monitor.place(seeds=list(seeds))
    with termination_requested() as requested:
        for seed in seeds:
            directory = session.config.out / f"seed-{seed}"
            results = train_arms(session, arms, seed, directory)
            if keep_models:
                require_checkpoint(directory, session.length.steps, ranks)
            if ranks.is_first:
                save(seed, results)
                remove_checkpoints(directory, keep=1 if keep_models else 0)
            if ranks.any(requested())[0]:
                raise Terminated(f"after seed {seed}")
