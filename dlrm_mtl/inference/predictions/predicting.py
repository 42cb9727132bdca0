"""Predicts every row of a split."""

import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from dlrm_mtl.config import ReaderConfig
from dlrm_mtl.data.dataset import Dataset
from dlrm_mtl.data.reader import PartsReader
from dlrm_mtl.data.shards import DataRecord
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.distributed.checkpoint_directory import MANIFEST as CHECKPOINT_MANIFEST
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.quiet import silence_known_warnings
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.ending import Terminated
from dlrm_mtl.files import sha256
from dlrm_mtl.funnels import products
from dlrm_mtl.inference.loading import LoadedModel, load_model, open_on_all
from dlrm_mtl.inference.predictions.columns import Columns, Predicted, prediction_columns
from dlrm_mtl.inference.predictions.manifest import Manifest, PredictedLabel, check_same, read_manifest
from dlrm_mtl.inference.predictions.options import PredictOptions
from dlrm_mtl.inference.predictions.output import Output, unfinished
from dlrm_mtl.inference.predictions.parts import batches_of, divide
from dlrm_mtl.inference.predictions.writer import write_parts
from dlrm_mtl.inference.stored_model import StoredModel
from dlrm_mtl.models.products import predictions_of
from dlrm_mtl.training.interruption import termination_requested
from dlrm_mtl.training.run_data import DATA_RECORD, inspect_run_data, open_run_data
from dlrm_mtl.training.run_log import progress_bar
from dlrm_mtl.training.state.init_from import DataFit

STEPS = 10
"""Batches between two times that the ranks agree whether to end."""


@dataclass(frozen=True)
class _Job:
    """Checked predictions."""

    options: PredictOptions
    ranks: Ranks
    stored: StoredModel
    source: RowSource
    columns: Columns
    manifest: Manifest
    record: DataRecord
    place: Path | None
    """The directory that holds predictions of the same, finished or begun."""


def predict(options: PredictOptions, ranks: Ranks) -> None:
    """Writes predictions, or goes on with those that were begun. Collective.

    Raises:
        ValueError: on every rank: checkpoint, data and options do not fit together, or other predictions are there.
        Terminated: when a rank was told to end by SIGTERM.
    """
    check_versions()
    silence_known_warnings()
    output = Output(options.out)
    job = _prepare(options, output, ranks)
    if job.place == output.out:
        _say(ranks, f"{job.place}: finished before")
        return
    files = output.files(divide(job.source.dataset, options.split, options.rows_per_file))
    begin = partial(output.begin, job.manifest, job.record) if job.place is None else output.go_on
    ranks.run_on_all(lambda: begin() if ranks.is_first else None)
    left = ranks.broadcast(unfinished(files, job.columns.schema) if ranks.is_first else {})
    of_all = f"{len(left)} of {len(files)} files to write"
    _say(ranks, f"{job.stored.path}, arm {job.stored.arm}: {job.manifest.rows} rows, {of_all}")
    if left:
        _write(job, left)
    mine = list(files)[ranks.rank :: ranks.world_size]
    checksums = ranks.gather(ranks.run_on_all(lambda: {file: sha256(file) for file in mine}))
    joined = {file: checksum for of_rank in checksums for file, checksum in of_rank.items()}
    ranks.run_on_all(lambda: output.publish(job.manifest, files, joined) if ranks.is_first else None)
    _say(ranks, f"predictions: {output.out}, with columns {', '.join(job.columns.schema.names)}")


def _prepare(options: PredictOptions, output: Output, ranks: Ranks) -> _Job:
    """Checks everything before predictions begin, the values of the data last, since that takes long."""
    stored = open_on_all(options.checkpoint, options.arm, ranks)
    # Rank 0 decides for all: a network file system may show a file to one rank before another.
    place = ranks.broadcast(ranks.run_on_all(lambda: output.find() if ranks.is_first else None))
    record = place / DATA_RECORD if place else None
    dataset, began = open_run_data(options.data, record, "stop", ranks, options.split, options.cache)

    def check() -> tuple[Columns, Manifest, DataFit]:
        fit = stored.fit(options.data, dataset.schema)
        columns = Columns.of(dataset, options.split, options.columns, stored.schema.tasks)
        manifest = _manifest(options, stored, dataset)
        if place is not None:
            check_same(place, read_manifest(place), manifest)
        return columns, manifest, fit

    columns, manifest, fit = ranks.run_on_all(check)
    for line in filter(None, (stored.note, fit.note)):
        _say(ranks, line, sys.stderr)
    inspected = inspect_run_data(dataset, began, options.check, "stop", ranks)
    source = RowSource(inspected[0], unseen=fit.new_ids)
    return _Job(options, ranks, stored, source, columns, manifest, inspected[1], place)


def _manifest(options: PredictOptions, stored: StoredModel, dataset: Dataset) -> Manifest:
    columns = prediction_columns(stored.schema.tasks)
    by_kind = {
        kind: {name: tasks for name, tasks in columns.items() if tasks[0].kind == kind}
        for kind in ("binary", "regression")
    }
    return Manifest(
        checkpoint=str(stored.path.absolute()),
        checkpoint_sha256=sha256(stored.path / CHECKPOINT_MANIFEST),
        step=stored.step,
        arm=stored.arm,
        split=options.split,
        rows=dataset.schema.rows(options.split),
        columns=options.columns,
        probabilities={name: tuple(task.name for task in tasks) for name, tasks in by_kind["binary"].items()},
        given={name: tasks[0].given for name, tasks in columns.items() if tasks[0].given},
        rows_per_file=options.rows_per_file,
        regressions={name: PredictedLabel(task.name, task.unit) for name, [task] in by_kind["regression"].items()},
    )


def _write(job: _Job, files: Mapping[Path, range]) -> None:
    """Shares files among the ranks, which all take as many steps. Collective."""
    ranks, split, batch_size = job.ranks, job.options.split, job.options.batch_size
    model = load_model(job.stored, ranks, batch_size, job.options.sharding)
    shares = [dict(list(files.items())[rank :: ranks.world_size]) for rank in range(ranks.world_size)]
    steps = max(batches_of(list(share.values()), batch_size) for share in shares)
    mine = shares[ranks.rank]
    reader = PartsReader(job.source, split, list(mine.values()), batch_size, steps)
    with (
        progress_bar(steps, "predict", ranks.is_first) as bar,
        termination_requested() as requested,
        closing(_predictions(model, reader, ranks)) as batches,
    ):

        def watched() -> Iterator[Predicted]:
            for step, batch in enumerate(batches, 1):
                bar.update()
                if step % STEPS == 0 and ranks.any(requested())[0]:
                    raise Terminated(f"with {sum(not file.exists() for file in files)} files left to write")
                yield batch

        write_parts(mine, job.source.dataset, split, job.columns, watched())
    ranks.synchronize()  # every file has its name
    ranks.watch.pause()


def _predictions(model: LoadedModel, reader: PartsReader, ranks: Ranks) -> Generator[Predicted, None, None]:
    """(B, M + P) of each batch, without padding. Collective."""
    tasks = model.stored.schema.tasks
    chains = tuple(products(tasks).values())
    for predictions in model.predict(reader, ReaderConfig(), ranks):
        predicted = predictions_of(predictions.logits, tasks, chains)
        yield predicted.cpu()[predictions.rows.cpu() >= 0].numpy()


def _say(ranks: Ranks, line: str, stream: TextIO | None = None) -> None:
    if ranks.is_first:
        print(line, file=stream, flush=True)
