"""``python -m data_prep.benchmark.contestants NAME OUT FILE...``: one of the ways to read or prepare Criteo logs that
``data_prep.bench`` compares with this project's.

Prints one line of JSON: the rows, and the seconds without start-up and imports, which would distort measurements on few
rows.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

INTEGERS = [f"I{i}" for i in range(1, 14)]
CATEGORICALS = [f"C{i}" for i in range(1, 27)]
NAMES = ["label", *INTEGERS, *CATEGORICALS]

PANDAS_CHUNK_ROWS = 100_000
PANDAS_IDS = 1_000_000
"""Ids of each feature: the values modulo this."""


def read_inferred(files: Sequence[Path], out: Path) -> Callable[[], int]:
    """pyarrow's streaming reader, column types inferred; writes nothing."""
    return lambda: read(files, {})


def read_typed(files: Sequence[Path], out: Path) -> Callable[[], int]:
    """The same with the types given: integers, and strings as they are."""
    types = dict.fromkeys(["label", *INTEGERS], pa.int64()) | dict.fromkeys(CATEGORICALS, pa.string())
    return lambda: read(files, types)


def read(files: Sequence[Path], types: dict[str, pa.DataType]) -> int:
    """Reads the files batch by batch and returns their rows."""
    rows = 0
    for file in files:
        with pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(column_names=NAMES, use_threads=False),
            parse_options=pa.csv.ParseOptions(delimiter="\t"),
            convert_options=pa.csv.ConvertOptions(column_types=types),
        ) as reader:
            rows += sum(batch.num_rows for batch in reader)
    return rows


def torchrec(files: Sequence[Path], out: Path) -> Callable[[], int]:
    """torchrec's own preparation: .npy files of log-scaled integers, of raw ids and of labels."""
    from torchrec.datasets.criteo import BinaryCriteoUtils

    def work() -> int:
        rows = 0
        for file in files:
            dense, sparse, labels = (str(out / f"{file.stem}_{kind}.npy") for kind in ("dense", "sparse", "labels"))
            BinaryCriteoUtils.tsv_to_npys(str(file), dense, sparse, labels)
            rows += len(np.load(labels, mmap_mode="r"))
        return rows

    return work


def pandas(files: Sequence[Path], out: Path) -> Callable[[], int]:
    """A preparation with pandas: hex to int, modulo, logarithm, a parquet file for each chunk."""
    # Not a dependency of the project; mypy knows no stubs for it either.
    pd = importlib.import_module("pandas")

    def work() -> int:
        rows = 0
        types = dict.fromkeys(CATEGORICALS, str)
        for file in files:
            for index, frame in enumerate(
                pd.read_csv(file, sep="\t", header=None, names=NAMES, dtype=types, chunksize=PANDAS_CHUNK_ROWS)
            ):
                for name in CATEGORICALS:
                    values = frame[name].fillna("0").map(lambda value: int(value, 16))
                    frame[name] = (values % PANDAS_IDS).astype(np.int32)
                for name in INTEGERS:
                    frame[name] = np.log1p(frame[name].fillna(0).clip(lower=0)).astype(np.float32)
                # Through pyarrow itself: pandas' to_parquet adds only its own metadata.
                pq.write_table(
                    pa.Table.from_pandas(frame, preserve_index=False, nthreads=1), out / f"{file.stem}_{index}.parquet"
                )
                rows += len(frame)
        return rows

    return work


CONTESTANTS = {"read_inferred": read_inferred, "read_typed": read_typed, "torchrec": torchrec, "pandas": pandas}
"""Each takes the files and a directory to write to, imports what it needs, and returns the work to be timed."""


def main() -> None:
    name, out, *files = sys.argv[1:]
    pa.set_cpu_count(1)
    work = CONTESTANTS[name]([Path(file) for file in files], Path(out))
    start = time.perf_counter()
    rows = work()
    print(json.dumps({"rows": rows, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
