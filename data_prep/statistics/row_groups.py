"""Row groups of a data set, one after the other."""

from collections.abc import Iterator

from tqdm import tqdm

from dlrm_mtl.data.dataset import Dataset, RowGroup


def with_progress(dataset: Dataset, what: str) -> Iterator[tuple[str, RowGroup]]:
    """Yields (split, row group) for all row groups, with a progress bar on stderr."""
    splits = dataset.schema.split_names
    total = sum(dataset.schema.rows(split) for split in splits)
    with tqdm(desc=what, total=total, unit="rows", unit_scale=True, mininterval=1.0, leave=False) as bar:
        for split in splits:
            for group in dataset.row_groups[split]:
                yield split, group
                bar.update(group.rows)
