"""Trains LightGBM with the seeds of a comparison, and writes the comparison with this arm."""

import resource
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import lightgbm
import numpy as np
import torch

from dlrm_mtl.cli import as_dict
from dlrm_mtl.config import require
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.context import Context
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.files import write_json
from dlrm_mtl.funnels import products
from dlrm_mtl.metrics.estimates_file import write_estimates
from dlrm_mtl.metrics.evaluation import Evaluation
from dlrm_mtl.metrics.evaluator import Evaluator
from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.quoting import quote
from dlrm_mtl.reporting.comparison import INDEPENDENT_ROWS, compare_seeds
from dlrm_mtl.reporting.effects.gains import Gains, gains_of_seed
from dlrm_mtl.reporting.effects.recorded_gains import with_gains_over
from dlrm_mtl.reporting.html import write_run_report
from dlrm_mtl.reporting.run_results import seed_file
from dlrm_mtl.reporting.runs.report_data import Run, read_run
from dlrm_mtl.reporting.seed_summary import summarize_seed
from dlrm_mtl.run_directory import describe_environment
from dlrm_mtl.schema import Schema, read_schema
from dlrm_mtl.studies.trees.boosting import train_task
from dlrm_mtl.studies.trees.case import TreesCase
from dlrm_mtl.studies.trees.features import Features, build_features, read_rows
from dlrm_mtl.training.loop import ArmResult

ARM = "lightgbm"


def run_trees(case: TreesCase) -> str:
    """Trains, evaluates and writes everything.

    Returns:
        the tables of ``report.md`` and the paths of the files.

    Raises:
        ValueError: the data set is damaged or not that of the comparison; the comparison is not finished, has no
            seed-S.json or has this arm already; a task is a regression, or its training rows have one class only.
    """
    schema = read_schema(case.data)
    run = read_run(case.beside)
    _check_run(case, run, schema)
    run = replace(run, seeds=run.seeds[: case.seeds])
    context = Context.of(schema)
    train, rows = read_rows(case.data, schema, "train"), read_rows(case.data, schema, "eval", context)
    _check_rows(case, run, schema, rows)
    start = time.perf_counter()
    features = build_features(case, schema, train, rows)
    record: dict[str, Any] = {
        "columns": features.train.shape[1],
        "features": features.description,
        "features_s": time.perf_counter() - start,
        "seeds": {},
    }
    print(f"{len(train):,} training rows, {len(rows):,} evaluation rows, {record['columns']} columns", flush=True)
    case.out.mkdir(parents=True, exist_ok=True)
    evaluations = {}
    for seed in (summary["seed"] for summary in run.seeds):
        start = time.perf_counter()
        logits, trees = _train(case, schema, features, train, seed)
        record["seeds"][seed] = {"training_s": time.perf_counter() - start, "trees": trees}
        evaluations[seed] = _evaluate(schema, context, rows, logits)
        print(f"seed {seed}: {', '.join(f'{task} {count} trees' for task, count in trees.items())}", flush=True)
    # In KiB on Linux.
    record["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    environment = describe_environment({**check_versions(), "lightgbm": lightgbm.__version__}, 1, "cpu")
    write_json(case.out / "config.json", as_dict(case))
    write_json(case.out / "environment.json", environment)
    write_json(case.out / "trees.json", record)
    write_json(case.out / "comparison.json", _add_arm(case, run, schema, evaluations))
    return write_run_report(case.out)


def _check_run(case: TreesCase, run: Run, schema: Schema) -> None:
    for task in schema.tasks:
        require(f"task {quote(task.name)}", task.kind, task.kind == "binary", "a binary task")
    tasks = list(run.comparison["tasks"])
    require("tasks of beside", tasks, tasks == list(schema.task_names), f"{list(schema.task_names)}, as in {case.data}")
    require("arms of beside", run.arms, ARM not in run.arms, f"a comparison without {ARM}")
    seeds = [summary["seed"] for summary in run.seeds if run.control in summary["arms"]]
    whole = bool(seeds) and seeds == run.comparison["arms"][run.control]["seeds"]
    require("seeds of beside", seeds, whole, f"a seed-S.json of each seed of {run.control} in {case.beside}")
    enough = case.seeds is None or case.seeds <= len(seeds)
    require("seeds", case.seeds, enough, f"at most the {len(seeds)} of {case.beside}")


def _check_rows(case: TreesCase, run: Run, schema: Schema, rows: MultiTaskBatch) -> None:
    """Raises a ValueError unless the comparison was evaluated on these rows, as far as their counts tell."""
    clusters = run.comparison["clusters"]
    expected = schema.cluster or INDEPENDENT_ROWS
    require("clusters of beside", clusters, clusters == expected, f"{expected}, as in {case.data}")
    for column, task in enumerate(schema.task_names):
        counted = run.comparison["evaluation"][task]["rows"]
        there = int((rows.weights[:, column] > 0).sum())
        require(f"evaluation rows of {task} in beside", counted, counted == there, f"{there}, as in {case.data}")


def _train(
    case: TreesCase, schema: Schema, features: Features, train: MultiTaskBatch, seed: int
) -> tuple[torch.Tensor, dict[str, int]]:
    """Predictions (N, M) of the evaluation rows, and the number of trees of each task."""
    columns, trees = [], {}
    for place, task in enumerate(schema.tasks):
        labels, weights = train.labels[:, place].numpy(), train.weights[:, place].numpy()
        predicted, trees[task.name] = train_task(case, task, features, labels, weights, seed)
        columns.append(predicted)
    return torch.from_numpy(np.stack(columns, axis=1)), trees


def _evaluate(schema: Schema, context: Context, rows: MultiTaskBatch, logits: torch.Tensor) -> Evaluation:
    chains = products(schema.tasks)
    evaluator = Evaluator(schema.tasks, context, len(rows), torch.device("cpu"), products=chains)
    evaluator.update(Predictions(logits, rows.labels, rows.weights, rows.rows, rows.context))
    return evaluator.evaluate()


def _add_arm(case: TreesCase, run: Run, schema: Schema, evaluations: Mapping[int, Evaluation]) -> dict[str, Any]:
    """The comparison with one arm more; writes seed-S.json and seed-S.npz of each seed."""
    tasks = schema.task_names
    seeds: list[Mapping[str, Any]] = []
    gains: dict[int, Mapping[str, Gains]] = {}
    for summary in run.seeds:
        seed, arms = summary["seed"], summary["arms"]
        own = summarize_seed(seed, tasks, {ARM: ArmResult(evaluations[seed], (), 0, 0)})["arms"][ARM]
        seeds.append({**summary, "arms": {**arms, ARM: with_gains_over(arms[run.control], own)}})
        file = seed_file(case.out, seed)
        if seed in run.estimates:
            estimates = {**run.estimates[seed], ARM: evaluations[seed]}
            gains[seed] = gains_of_seed(estimates, run.control)
            write_estimates(file.with_suffix(".npz"), estimates)
        write_json(file, seeds[-1])
    comparison = compare_seeds(
        tasks,
        seeds,
        {task.name: task.bayes_ne for task in schema.tasks},
        run.comparison["task_weights"],
        gains=gains,
        clusters=run.comparison["clusters"],
    )
    return {"data_set": schema.name, **comparison}
