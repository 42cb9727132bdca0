"""Measures section 4.2 of the paper on trained rankers: the residual of equation 9, and how well weights learned from
representation gradients balance parameter gradients."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlrm_mtl.config import require
from dlrm_mtl.data.reader import TrainingReader
from dlrm_mtl.files import read_json
from dlrm_mtl.run_config import CompareConfig
from dlrm_mtl.studies.decomposition import Decomposition, compare_weights, try_weights
from dlrm_mtl.studies.population import Population
from dlrm_mtl.studies.theory_case import TheoryCase
from dlrm_mtl.training.session import Session, open_session
from dlrm_mtl.training.trainer import Trainer

TRAINED_BY = "mean"
"""The arm whose gradients are measured: the control."""

LEVELS = ("dense", "embedding")
"""Parameters whose gradients give the weights to compare with: bottom MLP, tables."""

POPULATION_SEED = 1_000_000
"""Seed of the order in which the population is read, different from those of training."""


def measure_theory(case: TheoryCase) -> dict[str, Any]:
    """The study of one data set, as plain data for :func:`dlrm_mtl.studies.theory_table.format_theory`.

    Raises:
        ValueError: the data set cannot be trained on, or there is more than one process.
    """
    levels = {level: f"{case.method}{',' if ':' in case.method else ':'}level={level}" for level in LEVELS}
    arms = (TRAINED_BY, case.method, *levels.values())
    residual, agreement, learned = _Samples(), _Samples(), _Samples()
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as out:
        config = CompareConfig(
            case.data,
            Path(out) / "run",
            case.train_batch_size,
            epochs=case.steps,  # enough epochs: each has at least one step
            max_steps=case.steps,
            model=case.model,
            arms=arms,
        )
        with open_session(config, arms) as session:
            _check(session, case)
            for seed in range(case.seeds):
                population = _train(session, case, seed)
                sizes = _look_at_gradients(population, case, seed, residual, agreement)
                _learn_weights(session, case, levels, seed, learned)
            tasks = session.tasks
        environment = read_json(config.out / "environment.json")
    return {
        "data": str(case.data),
        "tasks": list(tasks),
        "method": case.method,
        "steps": case.steps,
        "train_batch_size": case.train_batch_size,
        "interaction": case.model.interaction,
        "seeds": case.seeds,
        "batches": case.batches,
        "sizes": sizes,
        "residual": residual.summarize("batch_size", "parameters"),
        "agreement": agreement.summarize("batch_size", "parameters", "weights_from"),
        "learned": learned.summarize("step", "level"),
        "environment": environment,
    }


@dataclass(frozen=True)
class _Samples:
    """Measured values by key and name."""

    values: dict[tuple[Any, ...], dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, key: tuple[Any, ...], measured: Mapping[str, float]) -> None:
        for name, value in measured.items():
            self.values[key][name].append(value)

    def summarize(self, *names: str) -> list[dict[str, Any]]:
        """One record per key, whose parts get ``names``: median, P10 and P90 of each value."""
        return [
            {**dict(zip(names, key, strict=True)), **{name: _spread(values) for name, values in measured.items()}}
            for key, measured in sorted(self.values.items())
        ]


def _spread(values: list[float]) -> dict[str, float]:
    """Rounded for the report."""
    p10, median, p90 = (float(f"{value:.5g}") for value in np.percentile(values, [10, 50, 90]))
    return {"median": median, "p10": p10, "p90": p90, "count": len(values)}


def _check(session: Session, case: TheoryCase) -> None:
    processes = session.ranks.world_size
    require("number of processes", processes, processes == 1, "1: the study looks at whole batches")
    rows = session.source.dataset.schema.rows("train")
    require("population", case.population, case.population <= rows, f"at most the {rows} training rows")
    # The lemma is about one shared representation.
    require("model.sharing", case.model.sharing, case.model.sharing == "bottom", "bottom")
    require("model.relation", case.model.relation, case.model.relation == "independent", "independent")


def _train(session: Session, case: TheoryCase, seed: int) -> Population:
    """Trains a ranker and freezes it over the population's rows."""
    trainer = session.trainer(TRAINED_BY, seed)
    assert isinstance(trainer, Trainer)
    trainer.train_window(case.steps)
    shuffle_rows = session.config.reader.shuffle_rows
    reader = TrainingReader(session.source, case.population, POPULATION_SEED, 0, 1, shuffle_rows)
    batch = next(iter(reader))
    ranker = trainer.pipeline.detach().module  # while attached, the tables have the pipeline's forward
    with torch.no_grad():
        embeddings = ranker.embedding_bags(batch.sparse.to(session.ranks.device)).wait()
    return Population(session.source.dataset.schema, ranker.dense_part, batch, embeddings)


def _look_at_gradients(
    population: Population, case: TheoryCase, seed: int, residual: _Samples, agreement: _Samples
) -> dict[str, int]:
    """Adds one model's values; returns the sizes of its parts."""
    everything = population.gradients(torch.arange(len(population)))
    limit = Decomposition.of(population, everything)
    for rows in _batches(case, seed):
        gradients = population.gradients(rows) if len(rows) < len(population) else everything
        for target, values in Decomposition.of(population, gradients).measure(limit).items():
            residual.add((len(rows), target), values)
        for (target, name), values in try_weights(gradients).items():
            agreement.add((len(rows), target, name), values)
    return {
        "population": len(population),
        "representation": everything.pooled.shape[1],
        "dense": everything.dense.shape[1],
        "tables": everything.tables.shape[1],
    }


def _batches(case: TheoryCase, seed: int) -> Iterator[Tensor]:
    """Rows of each batch, drawn without replacement; the last batch has all rows."""
    generator = torch.Generator().manual_seed(seed)
    for size in case.batch_sizes:
        for _ in range(case.batches):
            yield torch.randperm(case.population, generator=generator)[:size]
    yield torch.arange(case.population)


def _learn_weights(session: Session, case: TheoryCase, levels: Mapping[str, str], seed: int, learned: _Samples) -> None:
    """Adds one seed's comparison of learned weights: same initial weights and data for every level."""
    paths = {level: _weights_by_step(session, case, arm, seed) for level, arm in levels.items()}
    for step, weights in _weights_by_step(session, case, case.method, seed).items():
        others = {level: path[step] for level, path in paths.items()}
        for name, other in {**others, "uniform": torch.full_like(weights, 1 / len(weights))}.items():
            learned.add((step, name), compare_weights(weights, other))


def _weights_by_step(session: Session, case: TheoryCase, arm: str, seed: int) -> dict[int, Tensor]:
    """The task weights (M,) after each window of training."""
    trainer = session.trainer(arm, seed)
    assert isinstance(trainer, Trainer)
    weights = {}
    while not trainer.done:
        trainer.train_window(case.log_every)
        weights[trainer.step] = trainer.arm.balancing.balancer.task_weights().cpu().clone()
    return weights
