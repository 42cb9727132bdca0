"""A comparison, from its configuration to ``comparison.json``."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.monitoring.monitor import Monitor
from dlrm_mtl.reporting.run_results import seed_file, write_comparison, write_seed
from dlrm_mtl.run_config import CompareConfig
from dlrm_mtl.schema import read_schema
from dlrm_mtl.task_weights import share_weights
from dlrm_mtl.training.checkpoints import has_checkpoint
from dlrm_mtl.training.seeds import train_seeds
from dlrm_mtl.training.session import Session, prepare


@dataclass(frozen=True)
class OpenComparison:
    """A comparison that is checked and ready to train."""

    config: CompareConfig
    session: Session

    @classmethod
    def of(cls, config: CompareConfig, ranks: Ranks, monitor: Monitor | None = None) -> "OpenComparison":
        """Opens the run directory. Collective.

        Raises:
            ValueError: see :func:`dlrm_mtl.training.session.prepare`; weights of other tasks than the data set's.
        """
        # Checked before the data are read, which takes long.
        ranks.run_on_all(lambda: share_weights(config.task_weights, read_schema(config.data).task_names))
        return cls(config, prepare(config, config.arms, ranks, monitor=monitor))

    def train(self, seeds: Iterable[int]) -> None:
        """Trains the arms from those of the seeds that are not finished. Collective.

        Raises:
            Terminated: when a rank was told to end by SIGTERM.
        """
        config, session = self.config, self.session
        out, ranks, schema = config.out, session.ranks, session.source.dataset.schema
        files = {seed: seed_file(out, seed) for seed in seeds}
        finished = ranks.broadcast([seed for seed, file in files.items() if file.is_file()])
        if ranks.is_first:
            for seed in finished:
                lacks_models = config.keep_models and not has_checkpoint(out / f"seed-{seed}")
                note = "; its models were not kept then, and are not trained again" if lacks_models else ""
                print(f"seed {seed}: finished before, taken from {files[seed]}{note}", flush=True)
        save = partial(write_seed, out, schema, session.length)
        train_seeds(session, config.arms, [seed for seed in files if seed not in finished], save, config.keep_models)


def run_comparison(config: CompareConfig, ranks: Ranks, monitor: Monitor | None = None) -> None:
    """Trains the arms from every seed that is not finished, and writes ``comparison.json``. Collective.

    Raises:
        ValueError: see :meth:`OpenComparison.of`.
        Terminated: when a rank was told to end by SIGTERM.
    """
    comparison = OpenComparison.of(config, ranks, monitor)
    comparison.train(config.own_seeds)
    if ranks.is_first:
        write_comparison(config, comparison.session.source.dataset.schema)
