"""A comparison from its configuration to its report."""

from dlrm_mtl.config import CompareConfig
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.ending import Terminated
from dlrm_mtl.files import write_json
from dlrm_mtl.metrics.estimates_file import write_estimates
from dlrm_mtl.reporting.comparison import INDEPENDENT_ROWS, compare_seeds
from dlrm_mtl.reporting.effects.gains import gains_of_seed
from dlrm_mtl.reporting.html import write_report
from dlrm_mtl.reporting.runs.report_data import ReportData, read_run
from dlrm_mtl.reporting.runs.run_records import Seed, read_record, read_seed_estimates
from dlrm_mtl.reporting.seed_summary import summarize_seed
from dlrm_mtl.schema import read_schema
from dlrm_mtl.task_weights import share_weights
from dlrm_mtl.training.checkpoints import remove_checkpoints, require_checkpoint
from dlrm_mtl.training.interruption import termination_requested
from dlrm_mtl.training.loop import train_arms
from dlrm_mtl.training.session import prepare


def run_comparison(config: CompareConfig, ranks: Ranks) -> None:
    """Trains the arms from every seed that is not finished, and writes ``comparison.json``. Collective.

    Raises:
        ValueError: see :func:`dlrm_mtl.training.session.prepare`; weights of other tasks than the data set's.
        Terminated: when a rank was told to end by SIGTERM.
    """
    # Before the data are read, which takes long.
    task_weights = ranks.agree(lambda: share_weights(config.task_weights, read_schema(config.data).task_names))
    session = prepare(config, config.arms, ranks)
    schema = session.source.dataset.schema
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    files = [config.out / f"seed-{seed}.json" for seed in seeds]
    with termination_requested() as requested:
        for seed, file in zip(seeds, files, strict=True):
            if ranks.share(file.is_file()):
                if ranks.is_first:
                    print(f"seed {seed}: finished before, taken from {file}", flush=True)
                continue
            directory = config.out / f"seed-{seed}"
            results = train_arms(session, config.arms, seed, directory)
            if config.keep_models:
                require_checkpoint(directory, session.length.steps, ranks)
            if ranks.is_first:
                # First: the other file says that the seed is finished.
                write_estimates(file.with_suffix(".npz"), {arm: result.evaluation for arm, result in results.items()})
                write_json(file, summarize_seed(seed, schema.task_names, results, session.length))
                remove_checkpoints(directory, keep=1 if config.keep_models else 0)
            if ranks.any(requested())[0]:
                raise Terminated(f"after seed {seed}")
    if ranks.is_first:
        comparison = compare_seeds(
            schema.task_names,
            [read_record(file, Seed) for file in files],
            bayes_ne={task.name: task.bayes_ne for task in schema.tasks},
            task_weights=task_weights,
            planned_seeds=config.seeds_planned,
            gains={
                seed: gains_of_seed(estimates, config.arms[0])
                for seed, file in zip(seeds, files, strict=True)
                if (estimates := read_seed_estimates(file.with_suffix(".npz"), config.arms, schema.task_names))
            },
            clusters=schema.cluster or INDEPENDENT_ROWS,
        )
        write_json(config.out / "comparison.json", {"data_set": schema.name, **comparison})


def finish_comparison(config: CompareConfig) -> str:
    """Writes ``report.md`` and ``report.html`` of a comparison that was run.

    Returns:
        the tables, and where the files are.
    """
    run = read_run(config.out)
    return write_report(ReportData.of([run], run.comparison), config.out)
