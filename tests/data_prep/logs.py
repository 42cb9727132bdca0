"""Small raw logs and helpers to prepare them."""

import gzip
import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout
from data_prep.engine.options import IdOptions, StreamOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import Schema
from tests.pages import ROOT
from tests.preloaded import ModuleProcess
from tests.waiting import wait_for

COLUMNS = ("click", "count", "weight", "site", "user", "word", "tags", "unused")

LAYOUT = Layout(
    name="small",
    columns=COLUMNS,
    separator="\t",
    labels=(LabelColumn("click"),),
    tasks=(Task("click", "click"),),
    dense=(DenseColumn("count", "integer", transform="log", shift=3.0), DenseColumn("weight", standardise=True)),
    categorical=(
        CategoricalColumn("site", "hex"),
        CategoricalColumn("user", "integer"),
        CategoricalColumn("word"),
        CategoricalColumn("tags", multi_hot=True, separator="|"),
    ),
)

HEADED = replace(LAYOUT, columns=())

CONTEXT = ("--cluster", "user", "--segments", "word", "unused")
"""Options that keep a feature, and a column that is no feature."""

WAIT_S = 60.0

Process = ModuleProcess | subprocess.Popen[str]


def lines_of(rows: int, seed: int = 0) -> list[str]:
    """Good rows of the layout; about one value in ten is missing."""
    draw = random.Random(seed)

    def or_missing(value: str) -> str:
        return value if draw.random() > 0.1 else ""

    return [
        "\t".join(
            (
                str(int(draw.random() < 0.3)),
                or_missing(str(draw.randint(-2, 40))),
                or_missing(f"{draw.gauss(5, 2):.4f}"),
                or_missing(f"{draw.randint(0, 50) * 80_000_000:08x}"),
                or_missing(str(draw.randint(-20, 20))),
                or_missing(f"wörd{draw.randint(0, 30)}"),
                "|".join(f"t{draw.randint(0, 9)}" for _ in range(draw.randint(0, 3))),
                "x" * draw.randint(0, 5),
            )
        )
        for _ in range(rows)
    ]


def write_log(path: Path, lines: Sequence[str], header: bool = False) -> Path:
    """Writes lines, compressed by the suffix of the name."""
    text = "".join(f"{line}\n" for line in ([*["\t".join(COLUMNS)], *lines] if header else lines))
    return write_bytes(path, text.encode(errors="surrogateescape"))


def write_bytes(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(compressed(data, path.suffix))
    return path


def compressed(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(data, mtime=0)
    if suffix == ".zst":
        return pa.compress(data, codec="zstd", asbytes=True)
    return data


def run_prepare(
    raw: Path | Sequence[Path],
    out: Path,
    layout: Layout = LAYOUT,
    ids: IdOptions | None = None,
    split: SplitOptions | None = None,
    workers: int = 1,
    quarantine: bool = False,
    stream: StreamOptions | None = None,
) -> Schema:
    paths = [raw] if isinstance(raw, Path) else raw
    work = WorkOptions(workers, "quarantine" if quarantine else "stop")
    return prepare(
        "small", "tests", layout, paths, out, ids or IdOptions(), split or SplitOptions(), work, stream=stream
    )


def checksums(directory: Path, pattern: str = "*") -> dict[str, str]:
    """Checksums of all files, including hidden ones."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob(pattern))
        if path.is_file()
    }


def read_split(out: Path, schema: Schema, split: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(out / shard.file) for shard in schema.splits[split]])


def write_toml(path: Path, layout: Layout = LAYOUT) -> Path:
    """The layout as a file, for the command line."""

    def entry(item: object, *keys: str) -> str:
        values = {key: getattr(item, key) for key in keys}
        texts = {key: str(value).lower() if isinstance(value, bool) else repr(value) for key, value in values.items()}
        return "{ " + ", ".join(f"{key} = {text}" for key, text in texts.items() if text != "''") + " }"

    tables = {
        "labels": [entry(label, "name") for label in layout.labels],
        "tasks": [entry(task, "name", "label") for task in layout.tasks],
        "dense": [entry(c, "column", "kind", "transform", "shift", "standardise") for c in layout.dense],
        "categorical": [entry(c, "column", "kind", "multi_hot", "separator") for c in layout.categorical],
    }
    lines = [f"name = {layout.name!r}", 'separator = "\\t"', f"columns = {list(layout.columns)}"]
    lines += [f"cluster = {layout.cluster!r}", f"segments = {list(layout.segments)}"]
    path.write_text("\n".join([*lines, *(f"{name} = [{', '.join(items)}]" for name, items in tables.items()), ""]))
    return path


def words(*arguments: object) -> list[str]:
    return [str(argument) for argument in arguments]


def start(arguments: Sequence[str], **environment: str) -> ModuleProcess:
    """Starts ``data_prep.criteo`` in its own process group."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return ModuleProcess("data_prep.criteo", arguments, variables, ROOT, own_group=True)


def start_anew(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Likewise as a new process, whose imports take most of its time."""
    return subprocess.Popen(
        [sys.executable, "-m", "data_prep.criteo", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: Process, timeout: float = WAIT_S) -> tuple[int, str]:
    """Waits for the end and kills the process group; exit code, and stderr without progress bars."""
    try:
        _, errors = process.communicate(timeout=timeout)
    finally:
        kill_group(process)
    assert process.returncode is not None
    return process.returncode, without_progress(errors)


def without_progress(errors: str) -> str:
    """Stderr without progress bars."""
    return "\n".join(line for line in errors.splitlines() if line and "%|" not in line)


def kill_group(process: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=WAIT_S)


def await_that(condition: Callable[[], bool], process: Process) -> None:
    """Waits until it holds or the process has ended."""
    wait_for(lambda: condition() or process.poll() is not None, WAIT_S, str, poll_s=0.002)
