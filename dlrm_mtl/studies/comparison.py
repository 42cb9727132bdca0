"""A comparison, from its configuration to ``comparison.json``."""

from functools import partial

from dlrm_mtl.config import CompareConfig
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.reporting.run_results import seed_file, write_comparison, write_seed
from dlrm_mtl.schema import read_schema
from dlrm_mtl.task_weights import share_weights
from dlrm_mtl.training.seeds import train_seeds
from dlrm_mtl.training.session import prepare


def run_comparison(config: CompareConfig, ranks: Ranks) -> None:
    """Trains the arms from every seed that is not finished, and writes ``comparison.json``. Collective.

    Raises:
        ValueError: see :func:`dlrm_mtl.training.session.prepare`; weights of other tasks than the data set's.
        Terminated: when a rank was told to end by SIGTERM.
    """
    # Checked before the data are read, which takes long.
    ranks.run_on_all(lambda: share_weights(config.task_weights, read_schema(config.data).task_names))
    session = prepare(config, config.arms, ranks)
    finished = ranks.broadcast([seed for seed in config.own_seeds if seed_file(config.out, seed).is_file()])
    if ranks.is_first:
        for seed in finished:
            print(f"seed {seed}: finished before, taken from {seed_file(config.out, seed)}", flush=True)
    schema = session.source.dataset.schema
    train_seeds(
        session,
        config.arms,
        [seed for seed in config.own_seeds if seed not in finished],
        partial(write_seed, config.out, schema, session.length),
        config.keep_models,
    )
    if ranks.is_first:
        write_comparison(config, schema)
