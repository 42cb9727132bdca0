"""A comparison from its configuration to its report."""

from typing import Any

from dlrm_mtl.config import CompareConfig
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.files import read_json, write_json, write_text
from dlrm_mtl.reporting.comparison import compare_seeds, summarize_seed
from dlrm_mtl.reporting.markdown import format_comparison
from dlrm_mtl.training.checkpoints import remove_checkpoints
from dlrm_mtl.training.loop import train_arms
from dlrm_mtl.training.session import prepare


def run_comparison(config: CompareConfig, ranks: Ranks) -> dict[str, Any]:
    """Trains the arms from every seed that is not finished; writes ``comparison.json`` and ``report.md``. Collective.

    Returns:
        the comparison, on every rank.

    Raises:
        ValueError: see :func:`dlrm_mtl.training.session.prepare`.
    """
    session = prepare(config, config.arms, ranks)
    first, schema = ranks.is_first, session.source.dataset.schema
    files = [config.out / f"seed-{seed}.json" for seed in range(config.seeds)]
    for seed, file in enumerate(files):
        if ranks.share(file.is_file()):
            if first:
                print(f"seed {seed}: finished before, taken from {file}", flush=True)
            continue
        results = train_arms(session, config.arms, seed, config.out / f"seed-{seed}")
        if first:
            write_json(file, summarize_seed(seed, schema.task_names, results))
            remove_checkpoints(config.out / f"seed-{seed}")
    comparison: dict[str, Any] = {}
    if first:
        comparison = compare_seeds(
            schema.task_names,
            [read_json(file) for file in files],
            bayes_ne={task.name: task.bayes_ne for task in schema.tasks},
        )
        write_json(config.out / "comparison.json", comparison)
        text = format_comparison(comparison)
        write_text(config.out / "report.md", f"# {schema.name}\n\n{text}")
        print(f"\n{text}\nreport: {config.out / 'report.md'}", flush=True)
    return ranks.share(comparison)
