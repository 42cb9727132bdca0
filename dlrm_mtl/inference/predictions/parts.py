"""How the rows of a split are divided into files, and these among ranks."""

from collections.abc import Sequence

from dlrm_mtl.data.dataset import Dataset
from dlrm_mtl.data.order import Order


def divide(dataset: Dataset, split: str, min_rows: int) -> list[range]:
    """The rows of each file: at least ``min_rows`` consecutive ones, up to the end of a row group; the last may have
    fewer. They are the same for any number of ranks."""
    windows = Order(dataset.row_groups[split]).windows(0, dataset.schema.rows(split), min_rows)
    return [range(start, stop) for start, stop in windows]


def batches_of(parts: Sequence[range], batch_size: int) -> int:
    """Number of batches of some parts, none of which reaches from one part into the next."""
    return sum(-(-len(part) // batch_size) for part in parts)
