"""Evaluates stored models on the rows of a split."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from dlrm_mtl.config import ReaderConfig, require_directory_of
from dlrm_mtl.data.context import Context
from dlrm_mtl.data.dataset import Dataset, open_dataset
from dlrm_mtl.data.inspection import inspect_values
from dlrm_mtl.data.reader import EvaluationReader
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.quiet import silence_known_warnings
from dlrm_mtl.files import write_json
from dlrm_mtl.funnels import products
from dlrm_mtl.inference.evaluation.fitting import check_fit
from dlrm_mtl.inference.evaluation.options import EvaluateOptions
from dlrm_mtl.inference.evaluation.record import describe_evaluations
from dlrm_mtl.inference.loading import LoadedModel, load_model, open_on_all
from dlrm_mtl.inference.stored_model import StoredModel
from dlrm_mtl.metrics.evaluation import Evaluation
from dlrm_mtl.metrics.evaluator import Evaluator
from dlrm_mtl.schema import read_schema
from dlrm_mtl.storage.node_cache import cached
from dlrm_mtl.training.run_log import progress_bar


def evaluate(options: EvaluateOptions, ranks: Ranks) -> dict[str, Any]:
    """Evaluates the models and writes the result. Collective.

    Returns:
        the result, see :func:`describe_evaluations`.

    Raises:
        ValueError: on every rank: a checkpoint is missing or damaged, or does not fit the data set; the data set is
            damaged; there is no such segment.
    """
    silence_known_warnings()
    ranks.run_on_all(lambda: require_directory_of(options.out if ranks.is_first else None, "out"))
    models = [open_on_all(path, arm, ranks) for path, arm in options.models]
    dataset, notes = ranks.run_on_all(lambda: _open_rows(options, models))
    source = RowSource(dataset)
    if options.check == "full":
        ranks.run_on_all(lambda: inspect_values(dataset, "stop", ranks.rank, ranks.world_size))
    if ranks.is_first:
        for note in notes:
            print(note, file=sys.stderr, flush=True)
    # Ids that a model has not learnt stand for values that it has never seen.
    new_ids = ranks.run_on_all(lambda: [model.fit(options.data, dataset.schema).new_ids for model in models])
    loaded = (load_model(model, ranks, options.batch_size, options.sharding) for model in models)
    evaluations = [
        evaluate_model(model, source.with_unseen(ids), options, ranks)
        for model, ids in zip(loaded, new_ids, strict=True)
    ]
    result = describe_evaluations(options, dataset.schema, notes, models, evaluations)
    if ranks.is_first:
        write_json(options.out, result)
    return result


def _open_rows(options: EvaluateOptions, models: Sequence[StoredModel]) -> tuple[Dataset, list[str]]:
    """The rows with the tasks that are evaluated, whose values are not checked, and notes for the user."""
    schema = read_schema(options.data)
    tasks, notes = check_fit(models, options.data, schema)
    if options.split == "train" and (schema.cluster or schema.segments):
        notes.append("the train split keeps neither users nor segments: its rows are taken as independent")
    place = options.data if options.cache is None else cached(options.data, options.cache)
    dataset = RowSource(open_dataset(place, schema=schema.of_split(options.split))).of_tasks(tasks).dataset
    Context.of(dataset.schema, options.segments)
    return dataset, notes


def evaluate_model(model: LoadedModel, source: RowSource, options: EvaluateOptions, ranks: Ranks) -> Evaluation:
    """The evaluation of the data set's tasks, which the model has, on every rank. Collective."""
    schema = source.dataset.schema
    reader = EvaluationReader(source, options.batch_size, ranks.rank, ranks.world_size, options.segments, options.split)
    columns = torch.tensor([model.stored.tasks.index(task) for task in schema.task_names], device=ranks.device)
    evaluator = Evaluator(
        schema.tasks,
        reader.context,
        options.batch_size * ranks.world_size,
        ranks.device,
        ranks,
        products=products(schema.tasks),
    )
    with progress_bar(len(reader), model.stored.arm, ranks.is_first) as bar:
        for predictions in model.predict(reader, ReaderConfig(), ranks):
            evaluator.update(replace(predictions, logits=predictions.logits[:, columns]))
            bar.update()
    return evaluator.evaluate()
