"""Other training loops: a well-tuned plain one, and one with the structure of the public torchrec_dlrm script."""

import io
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from dlrm_mtl.benchmarks.loops.plain_model import build_plain_model
from dlrm_mtl.benchmarks.windows import Contender
from dlrm_mtl.config import require
from dlrm_mtl.data.assembly import Rows
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.dataset import Dataset, RowGroup
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.training.session import Session


def plain_loop(session: Session) -> Contender:
    """A train pipeline over parquet row groups read by pyarrow; the loss is read once per window. Collective.

    Raises:
        ValueError: a rank has fewer training rows of its own than a batch.
    """
    return _loop(session, ShuffledRowGroups(session), lambda loss: None)


def script_loop(session: Session) -> Contender:
    """A loop like torchrec_dlrm's: all rows in memory, in order; a progress bar and the loss in every step. Collective.

    Raises:
        ValueError: a rank has fewer training rows of its own than a batch.
    """
    # Drawn to nowhere, so that the terminal's speed is not measured.
    bar = tqdm(file=io.StringIO(), disable=not session.ranks.is_first)

    def show(loss: Tensor) -> None:
        bar.set_postfix(loss=loss.item())
        bar.update(1)

    return _loop(session, RowsInMemory(session), show)


def _loop(
    session: Session, dataset: IterableDataset[MultiTaskBatch], after_step: Callable[[Tensor], None]
) -> Contender:
    pipeline = build_plain_model(session).pipeline(session.ranks.device)
    batches = _load(session, dataset)
    steps = session.config.log_every

    def window() -> int:
        for _ in range(steps):
            loss, _, _ = pipeline.progress(batches)
            after_step(loss)
        float(loss)
        return steps * session.config.batch_size

    return window


class ShuffledRowGroups(IterableDataset[MultiTaskBatch]):
    """The rank's own row groups, without end. Row groups, and the rows within each, are shuffled in each epoch. Rows
    that do not fill a batch start the next one."""

    def __init__(self, session: Session) -> None:
        self._dataset = session.source.dataset
        self._row_groups = own_row_groups(session)
        self._batch_size = session.config.local_batch_size(session.ranks.world_size)

    def __iter__(self) -> Iterator[MultiTaskBatch]:
        rng = np.random.default_rng(0)
        rest: list[pa.Table] = []
        while True:
            for index in rng.permutation(len(self._row_groups)):
                table = _join([*rest, _read(self._dataset, self._row_groups[index])]).combine_chunks()
                table = table.take(pa.array(rng.permutation(len(table))))
                rows = Rows(self._dataset.schema, table, np.arange(len(table)))
                whole = len(table) - len(table) % self._batch_size
                for start in range(0, whole, self._batch_size):
                    yield rows.batch(start, start + self._batch_size)
                rest = [table.slice(whole)]


class RowsInMemory(IterableDataset[MultiTaskBatch]):
    """The rank's own rows as arrays in memory, repeated in the same order; rows that do not fill a batch are
    left out."""

    def __init__(self, session: Session) -> None:
        dataset = session.source.dataset
        table = _join([_read(dataset, group) for group in own_row_groups(session)])
        self._rows = Rows(dataset.schema, table, np.arange(len(table)))
        self._batch_size = session.config.local_batch_size(session.ranks.world_size)

    def __iter__(self) -> Iterator[MultiTaskBatch]:
        while True:
            for start in range(0, len(self._rows) - self._batch_size + 1, self._batch_size):
                yield self._rows.batch(start, start + self._batch_size)


def own_row_groups(session: Session) -> list[RowGroup]:
    """Every world_size-th training row group.

    Raises:
        ValueError: on every rank, if one has fewer rows than a batch.
    """
    ranks: Ranks = session.ranks
    groups = list(session.source.dataset.row_groups["train"])
    local = session.config.local_batch_size(ranks.world_size)
    rows = [sum(group.rows for group in groups[rank :: ranks.world_size]) for rank in range(ranks.world_size)]
    require("rows of the rank with the fewest", min(rows), min(rows) >= local, f"a local batch of {local} or more")
    return groups[ranks.rank :: ranks.world_size]


def _read(dataset: Dataset, group: RowGroup) -> pa.Table:
    with pq.ParquetFile(group.file) as file:
        return file.read_row_group(group.index, columns=dataset.columns, use_threads=False)


def _join(tables: list[pa.Table]) -> pa.Table:
    """Joins tables whose integers may have different widths."""
    return pa.concat_tables(tables, promote_options="permissive")


def _load(session: Session, dataset: IterableDataset[MultiTaskBatch]) -> Iterator[MultiTaskBatch]:
    """Loads in as many processes as this project's reader: none on a CPU, whose cores the steps need."""
    on_gpu = session.ranks.device.type == "cuda"
    workers = 2 if on_gpu else 0
    return iter(
        DataLoader(
            dataset,
            batch_size=None,
            num_workers=workers,
            pin_memory=on_gpu,
            multiprocessing_context="spawn" if workers else None,
        )
    )
