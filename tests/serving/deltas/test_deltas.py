"""Deltas of exports: an export and the deltas since are the full export of a later day, byte for byte."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.saved_model import read_model
from dlrm_mtl.export_options import ExportOptions, Precision
from dlrm_mtl.serving import Scorer, apply_deltas
from dlrm_mtl.serving.deltas.manifest import read_delta
from dlrm_mtl.serving.deltas.writing import find_obstacle, write_delta
from dlrm_mtl.serving.exported import processor
from dlrm_mtl.serving.manifest import read_manifest
from dlrm_mtl.serving.publishing import publish
from dlrm_mtl.serving.writing import write_export
from tests.data_prep.logs import checksums
from tests.entry_points.processes import complaint, python
from tests.messages import naming
from tests.ranks import RankPool
from tests.serving.deltas.days import Day, first_day, next_day
from tests.serving.raw_export import MODEL

EVERY = 2
RECYCLED = 3
"""Position of a word that gives its place to a new one."""

ROW = {"site": "0" * 8, "user": 1, "word": "new", "tags": "t1", "count": 3, "weight": 1.0}


@dataclass(frozen=True)
class Chain:
    """Publications of four days, every second one in full, and the words before the first."""

    days: list[Day]
    published: list[Path]
    words: int

    def full(self, day: int) -> Path:
        return self.published[day] / "full"

    def delta(self, day: int) -> Path:
        return self.published[day] / "delta"


def publish_all(ranks: Ranks, days: list[Day], out: Path) -> list[str]:
    """Each day, by the first of several ranks; what it says."""
    said = []
    for number, day in enumerate(days):
        call = partial(publish, day.checkpoint, "mean", day.data, out / f"{number:04d}-day", EVERY)
        publication = ranks.run_on_all(lambda call=call: call() if ranks.is_first else None)  # type: ignore[misc]
        said.append(str(publication))
    return said


@pytest.fixture(scope="module")
def chain(rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The last day has another task."""
    directory = tmp_path_factory.mktemp("chain")
    days = [first_day(directory, MODEL)]
    words = days[0].schema.tables["word"][0].cardinality - 2
    days.append(next_day(days[-1], {RECYCLED: "new", words: "a", words + 1: "b"}, {"word": [5, 7], "user": [2]}))
    days.append(next_day(days[-1], {words + 2: "c", RECYCLED + 1: "newer"}, {"word": [6, 7]}))
    click, long = days[-1].schema.tasks
    days.append(next_day(days[-1], {}, {}, (click, replace(long, name="buy"))))
    [said, _] = rank_pool.run(2, publish_all, days, directory / "published")
    sizes = days[1].schema.tables.values()
    assert f"5 of {sum(users[0].cardinality for users in sizes)}" in said[1]  # four words and a user
    assert "tasks" in said[3]
    return Chain(days, sorted((directory / "published").iterdir()), words)


def test_deltas_make_the_full_export(chain: Chain, tmp_path: Path) -> None:
    manifest = apply_deltas(chain.full(0), [chain.delta(1), chain.delta(2)], tmp_path / "out")
    assert checksums(tmp_path / "out") == checksums(chain.full(2))
    assert manifest == read_manifest(chain.full(2))
    scorers = [Scorer(directory) for directory in (chain.full(0), tmp_path / "out", chain.full(2))]
    before, applied, full = (scorer.score([ROW]) for scorer in scorers)
    assert [scorer.unseen["word"] for scorer in scorers] == [1, 0, 0]
    assert applied.equals(full)
    assert not before.equals(full)


def test_a_publication_has_what_changed(chain: Chain) -> None:
    names = [sorted(path.name for path in publication.iterdir()) for publication in chain.published]
    assert names == [["full"], ["delta"], ["delta", "full"], ["full"]]
    first, second = read_delta(chain.delta(1)), read_delta(chain.delta(2))
    rows = chain.words + 2
    assert asdict(first.tables["word"]) == {"replaced": 2, "appended": 2, "rows": rows + 2}
    assert asdict(first.tables["user"])["replaced"] == 1
    assert asdict(first.vocabularies["word"]) == {"replaced": 1, "appended": 2, "rows": chain.words + 2}
    for path, ids in ((chain.delta(1), [5, 7, rows, rows + 1]), (chain.delta(2), [6, 7, rows + 2])):
        assert pq.read_table(path / "rows" / "word.parquet")["id"].to_pylist() == ids
    # As on the page: rows for a store of another program.
    table = pq.read_table(chain.delta(1) / "rows" / "word.parquet")
    values = np.frombuffer(b"".join(table["row"].to_pylist()), np.float32).reshape(len(table), -1)
    weights = read_model(chain.days[1].checkpoint)["embedding_bags.embedding_bags.word.weight"]
    assert np.array_equal(values, weights[[5, 7, rows, rows + 1]])
    words = pq.read_table(chain.delta(2) / "encoding" / "vocabulary" / "word.parquet")
    assert words.to_pydict() == {"id": [RECYCLED + 3, rows + 2], "value": ["newer", "c"]}
    assert second.base.sha256 == first.export.sha256
    assert second.base.bytes == first.export.bytes
    assert second.export == read_manifest(chain.full(2))
    assert second.bytes == sum(
        path.stat().st_size for path in chain.delta(2).rglob("*") if path.is_file() and path.name != "delta.json"
    )


STEM = replace(MODEL, sharing="stem", shared_experts=1, own_experts=1, expert_mlp=(4,))


@pytest.mark.parametrize(
    ("config", "arm", "precision", "tables"),
    [
        (STEM, "mean", "int8", {"word", "word%of_task_ctr", "word%of_task_cvr"}),
        (replace(MODEL, relation="independent"), "single_task", "float", {"0/word", "1/word"}),
    ],
)
def test_every_table_of_a_model(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: ModelConfig,
    arm: str,
    precision: Precision,
    tables: set[str],
) -> None:
    """Tables of a task's own, models of a task's own, int8; in blocks."""
    monkeypatch.setattr("dlrm_mtl.serving.deltas.rows.BLOCK_ROWS", 5)
    days = [first_day(tmp_path, config, arm)]
    days.append(next_day(days[0], {1: "x", 40: "y"}, {table.rpartition("/")[2]: [3, 4, 20] for table in tables}))
    exports = [tmp_path / "before", tmp_path / "after"]
    for day, export in zip(days, exports, strict=True):
        write_export(ExportOptions(day.checkpoint, export, arm, day.data, precision))
    delta = write_delta(exports[0], exports[1], tmp_path / "delta")
    assert {table for table, changes in delta.tables.items() if changes.replaced == 3} == tables
    apply_deltas(exports[0], [tmp_path / "delta"], tmp_path / "out")
    assert checksums(tmp_path / "out") == checksums(exports[1])


@pytest.mark.parametrize(
    ("base", "deltas", "named"),
    [
        (0, [2], ("0002-day", "sha256")),
        (0, [1, 1], ("0001-day",)),
        (0, [2, 1], ("0002-day",)),
        (2, [1], ("0001-day",)),
        (0, [], ("deltas",)),
    ],
)
def test_a_delta_applies_to_the_publication_before_it(
    chain: Chain, tmp_path: Path, base: int, deltas: list[int], named: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=naming(*named)):
        apply_deltas(chain.full(base), [chain.delta(day) for day in deltas], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def shortened(delta: Path) -> str:
    path = delta / "rows" / "word.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    return "rows/word.parquet"


def changed(delta: Path) -> str:
    path = delta / "model.zip"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    return "model.zip"


def missing(delta: Path) -> str:
    (delta / "delta.json").unlink()
    return "delta.json"


def of_other_bytes(delta: Path) -> str:
    """The weights that it gives are checked, too."""
    manifest = json.loads((delta / "delta.json").read_text())
    manifest["export"]["files"]["model.pt2"]["sha256"] = "0" * 64
    (delta / "delta.json").write_text(json.dumps(manifest))
    return "model.pt2"


@pytest.mark.parametrize("damage", [shortened, changed, missing, of_other_bytes])
def test_a_damaged_delta_is_refused(chain: Chain, tmp_path: Path, damage: Callable[[Path], str]) -> None:
    delta = Path(shutil.copytree(chain.delta(1), tmp_path / "delta"))
    name = damage(delta)
    with pytest.raises(ValueError, match=naming(name)):
        apply_deltas(chain.full(0), [delta], tmp_path / "out")
    assert list(tmp_path.iterdir()) == [delta]


def test_what_is_no_delta(chain: Chain, tmp_path: Path) -> None:
    first, third, fourth = (read_manifest(chain.full(day)) for day in (0, 2, 3))
    compiled = replace(third, processor=processor(), files={**third.files, "compiled.pt2": third.files["model.pt2"]})
    for before, after, named in (
        (third, fourth, ("tasks",)),
        (third, first, ("word", chain.words + 2, chain.words + 5)),
        (first, compiled, ("compiled.pt2",)),
        (replace(first, precision="int8"), third, ("precision",)),
        (replace(first, stored={}), third, ("earlier version",)),
    ):
        assert re.search(naming(*named), find_obstacle(before, after) or "")
    assert find_obstacle(compiled, third) is None
    with pytest.raises(ValueError, match=naming(chain.full(3), "tasks")):
        write_delta(chain.full(2), chain.full(3), tmp_path / "delta")


def test_a_publication_is_whole_or_not_there(chain: Chain, tmp_path: Path) -> None:
    """A killed one is replaced, a finished one stays, and the full export that a delta needs is asked for."""
    published, day = tmp_path / "published", chain.days[1]
    shutil.copytree(chain.published[0], published / "0000-day")
    (published / "0001-day.partial" / "full.partial").mkdir(parents=True)
    (published / "0001-day.partial" / "full.partial" / "model.pt2").write_bytes(b"the beginning")
    publication = publish(day.checkpoint, "mean", day.data, published / "0001-day", EVERY)
    assert publication is not None
    assert publication.full is None
    assert publication.delta == read_delta(published / "0001-day" / "delta")
    # Paths of checkpoints are equal, so manifests are, too.
    assert checksums(published / "0001-day") == checksums(chain.published[1])
    assert publish(day.checkpoint, "mean", day.data, published / "0001-day", EVERY) is None
    shutil.rmtree(published / "0000-day" / "full")
    with pytest.raises(ValueError, match=naming(published, "0000-day, 0001-day")):
        publish(day.checkpoint, "mean", day.data, published / "0002-day", EVERY)


def test_the_entry_point(chain: Chain, tmp_path: Path) -> None:
    options = ("--export", chain.full(0), "--deltas", chain.delta(1), chain.delta(2), "--out", tmp_path / "out")
    process = python("dlrm_mtl.apply", *options)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == f"export: {tmp_path / 'out'}"
    assert checksums(tmp_path / "out") == checksums(chain.full(2))
    assert str(tmp_path / "out") in complaint(python("dlrm_mtl.apply", *options))
