"""The results of a comparison: ``seed-S.json`` and ``seed-S.npz`` of each seed, and ``comparison.json``."""

from collections.abc import Mapping
from pathlib import Path

from dlrm_mtl.files import write_json
from dlrm_mtl.metrics.estimates_file import write_estimates
from dlrm_mtl.reporting.comparison import INDEPENDENT_ROWS, compare_seeds
from dlrm_mtl.reporting.effects.gains import gains_of_seed
from dlrm_mtl.reporting.runs.report_data import RESULT
from dlrm_mtl.reporting.runs.run_records import Seed, read_record, read_seed_estimates
from dlrm_mtl.reporting.seed_summary import summarize_seed
from dlrm_mtl.run_config import CompareConfig, TrainConfig
from dlrm_mtl.schema import Schema
from dlrm_mtl.task_weights import share_weights
from dlrm_mtl.training.loop import ArmResult
from dlrm_mtl.training_length import TrainingLength


def seed_file(out: Path, seed: int) -> Path:
    """Results of a seed; where this file is, the seed is finished."""
    return out / f"seed-{seed}.json"


def write_seed(out: Path, schema: Schema, length: TrainingLength, seed: int, results: Mapping[str, ArmResult]) -> None:
    """Writes the results of one seed, by arm."""
    file = seed_file(out, seed)
    # First: the other file says that the seed is finished.
    write_estimates(file.with_suffix(".npz"), {arm: result.evaluation for arm, result in results.items()})
    write_json(file, summarize_seed(seed, schema.task_names, results, length))


def write_result(config: TrainConfig, schema: Schema, length: TrainingLength, results: Mapping[str, ArmResult]) -> Path:
    """Writes ``result.json`` of a run of one arm and seed, and ``result.npz``, with which the report joins it.

    Returns:
        the path of the former.
    """
    file = config.out / RESULT
    write_estimates(file.with_suffix(".npz"), {arm: result.evaluation for arm, result in results.items()})
    on_data = {
        "data_set": schema.name,
        "clusters": schema.cluster or INDEPENDENT_ROWS,
        "bayes_ne": {task.name: task.bayes_ne for task in schema.tasks},
    }
    write_json(file, {**on_data, **summarize_seed(config.seed, schema.task_names, results, length)})
    return file


def write_comparison(config: CompareConfig, schema: Schema) -> None:
    """Writes ``comparison.json`` from the results of all seeds.

    Raises:
        ValueError: a seed's files are malformed; weights of other tasks than the data set's.
    """
    files = {seed: seed_file(config.out, seed) for seed in config.own_seeds}
    summaries = {seed: read_record(file, Seed) for seed, file in files.items()}
    comparison = compare_seeds(
        schema.task_names,
        list(summaries.values()),
        bayes_ne={task.name: task.bayes_ne for task in schema.tasks},
        task_weights=share_weights(config.task_weights, schema.task_names),
        planned_seeds=config.seeds_planned,
        gains={
            seed: gains_of_seed(estimates, config.arms[0])
            for seed, file in files.items()
            if (estimates := read_seed_estimates(file.with_suffix(".npz"), summaries[seed]["arms"], schema.task_names))
        },
        clusters=schema.cluster or INDEPENDENT_ROWS,
    )
    write_json(config.out / "comparison.json", {"data_set": schema.name, **comparison})
