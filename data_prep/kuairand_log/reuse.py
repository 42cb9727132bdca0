"""The encoding of another KuaiRand, instead of one that is learnt."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from data_prep.encoding.encoding import Encoding
from data_prep.encoding.files import find_vocabulary
from data_prep.encoding.reuse import ReusedEncoding, read_reused
from data_prep.kuairand_log.learning import categorical_features, dense_feature, dense_names_of
from data_prep.kuairand_log.raw_tables import RawFiles
from dlrm_mtl.location import Location
from dlrm_mtl.storage.parquet import read_table


def reuse(directory: Location, out: Path, files: RawFiles) -> tuple[ReusedEncoding, RawFiles]:
    """The encoding of a data set, and the files that its features need.

    Args:
        out: directory of the new data set.

    Raises:
        ValueError: it cannot be read, see :func:`read_reused`, has other features, or needs a file that is not there.
    """
    reused = read_reused(directory, "kuairand", out)
    encoding = reused.encoding
    newest = newest_of(encoding)
    is_marked = {column.feature: column.mark_missing for column in encoding.dense}
    reused.check_features(
        categorical_features(newest),
        [dense_feature(name, is_marked.get(name, False)) for name in dense_names_of(newest > 0)],
    )
    if newest and files.history is None:
        raise ValueError(
            f"{files.users.parent}: expected a file user_history_to_*.parquet, for the histories in {reused.file}"
        )
    return reused, files if newest else replace(files, history=None)


def newest_of(encoding: Encoding) -> int:
    """Ids kept of each history; 0: there are no histories."""
    return max((feature.newest for feature in encoding.categorical), default=0)


def vocabularies_of(reused: ReusedEncoding) -> Mapping[str, pa.Table]:
    """The vocabularies of its tables: columns ``value`` and ``count``."""
    encoding, directory = reused.encoding, reused.directory
    return {table: read_table(find_vocabulary(encoding, directory, table)) for table in encoding.tables_with_vocabulary}
