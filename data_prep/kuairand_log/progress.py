"""A progress bar over the log."""

from collections.abc import Iterator

from tqdm import tqdm

from data_prep.kuairand_log.raw_tables import Impressions


def with_progress(batches: Iterator[Impressions], what: str, total: int | None) -> Iterator[Impressions]:
    """The batches, with a progress bar on stderr that counts rows."""
    with tqdm(desc=what, total=total, unit="rows", unit_scale=True, mininterval=1.0) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))
