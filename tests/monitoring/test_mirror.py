"""Mirrors of run directories: what is in them at any moment, and runs that go on from them on another node."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dlrm_mtl.config import CheckpointConfig, ModelConfig
from dlrm_mtl.distributed.checkpoint_directory import (
    FORMAT,
    MANIFEST,
    checkpoint_path,
    find_damage,
    read_manifest,
    record_files,
    remove,
    write_manifest,
)
from dlrm_mtl.distributed.tensor_description import DESCRIPTION
from dlrm_mtl.files import read_json
from dlrm_mtl.monitoring.mirror import Mirror
from dlrm_mtl.run_config import CompareConfig
from dlrm_mtl.storage import store
from dlrm_mtl.storage.store import Store
from tests.entry_points.test_resume import logs, without_speed
from tests.messages import mentions
from tests.monitoring.recording import compare
from tests.ranks import RankPool

ALONE: Any = SimpleNamespace(
    is_first=True, rank=0, world_size=1, run_on_all=lambda action: action(), broadcast=lambda value: value
)
"""The only rank of a job."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations are tried once more, without a pause."""
    monkeypatch.setattr(store, "DELAYS_S", (0.0,))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run directory with a checkpoint."""
    out = tmp_path / "node a" / "run"
    write(out / "mean/metrics.jsonl", "{}\n")
    write(out / "config.json", "{}")
    write(out / "starts.jsonl", "{}\n")
    save(out, 10)
    return out


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def save(out: Path, step: int, content: str = "weights") -> None:
    """Writes a checkpoint, as whole as those of a run."""
    path = checkpoint_path(out / "checkpoints", step)
    remove(path)
    files = (DESCRIPTION, "__0_0.distcp", "__1_0.distcp")
    for name in files:
        write(path / name, f"{content} {name} of step {step}")
    records = {name: {"bytes": size, "sha256": checksum} for name, size, checksum in record_files(path, files)}
    write_manifest(path, {"format": FORMAT, "step": step, "files": records})


def begin(place: Any, out: Path) -> Mirror:
    mirror = Mirror(place, out)
    mirror.begin(ALONE)
    return mirror


def tree(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def whole_checkpoints(mirror: Path) -> list[str]:
    """The checkpoints with a manifest, none of which may be damaged."""
    manifests = sorted(mirror.rglob(MANIFEST))
    for file in manifests:
        assert find_damage(file.parent, read_manifest(file.parent)) is None
    return [file.parent.name for file in manifests]


def life(out: Path) -> Iterator[Callable[[], None]]:
    """What a run does between the copies of its mirror."""
    yield lambda: None

    def go_on() -> None:
        save(out, 20)
        save(out, 30)
        remove(checkpoint_path(out / "checkpoints", 10))
        write(out / "mean/metrics.jsonl", "{}\n{}\n")

    yield go_on

    def go_on_from_an_earlier_step() -> None:
        save(out, 30, "other weights")
        write(out / "result.json", "{}")
        write(out / ".result.json.0123456789abcdef.tmp", "half")

    yield go_on_from_an_earlier_step


def test_a_checkpoint_in_the_mirror_is_whole_at_any_moment(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every operation fails once, in a run of its own, as if the job was killed there; then the next copy is made."""
    operations, failing = 0, 0

    def counted(name: str) -> Callable[..., Any]:
        operation = getattr(Store, name)

        def call(self: Store, *arguments: Any) -> Any:
            nonlocal operations
            operations += 1
            whole_checkpoints(place)
            if operations == failing:
                raise OSError("the connection was cut")
            return operation(self, *arguments)

        return call

    for name in ("put", "remove"):
        monkeypatch.setattr(Store, name, counted(name))
    original = tmp_path / "original"
    shutil.copytree(out, original)
    place, most = tmp_path / "mirror", 1
    while failing < most:
        failing, operations, place = failing + 1, 0, tmp_path / f"mirror {failing}"
        shutil.rmtree(out)
        shutil.copytree(original, out)
        mirror = begin(place, out)
        for act in life(out):
            act()
            before = whole_checkpoints(place)
            try:
                mirror.copy()
            except OSError:
                assert not before or whole_checkpoints(place), "none is removed before another one is whole"
                mirror.copy()
        assert whole_checkpoints(place) == ["step-00000020", "step-00000030"]
        assert sorted(path.name for path in (place / "checkpoints").iterdir()) == ["step-00000020", "step-00000030"]
        assert tree(place) == {name: value for name, value in tree(out).items() if not name.startswith(".")}
        most = max(most, operations)
    assert most > 20


def test_a_node_without_the_run_restores_it(out: Path, tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "mirror", tmp_path / "node b" / "run"
    save(out, 20)
    begin(place, out).finish()
    (checkpoint_path(place / "checkpoints", 20) / MANIFEST).unlink()  # as if the job was killed before it
    begin(place, elsewhere).finish()
    assert "checkpoints/step-00000010/checkpoint.json" in tree(elsewhere)
    assert not checkpoint_path(elsewhere / "checkpoints", 20).exists()
    assert tree(place) == tree(elsewhere)


def test_of_two_copies_the_one_with_more_starts_goes_on(out: Path, tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "mirror", tmp_path / "node b" / "run"
    begin(place, out).finish()
    mirror = begin(place, elsewhere)
    write(elsewhere / "starts.jsonl", "{}\n{}\n")
    save(elsewhere, 20)
    mirror.finish()
    begin(place, out)
    assert tree(out) == tree(elsewhere), "it was behind"
    save(out, 30)
    begin(place, out).finish()
    assert checkpoint_path(place / "checkpoints", 30).exists(), "it was ahead"


def test_a_mirror_of_another_run_or_of_other_files_is_refused(out: Path, tmp_path: Path) -> None:
    begin(tmp_path / "mirror", out).finish()
    before = tree(tmp_path / "mirror")
    write(out / "config.json", '{"epochs": 2}')
    with pytest.raises(ValueError, match=r"config\.json"):
        begin(tmp_path / "mirror", out)
    assert tree(tmp_path / "mirror") == before
    write(tmp_path / "photos/cat.jpeg", "")
    with pytest.raises(ValueError, match="photos"):
        begin(tmp_path / "photos", out)
    with pytest.raises(ValueError, match="lies in"):
        Mirror(out / "mirror", out)


def test_an_unchanged_checkpoint_is_not_copied_again(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path / "mirror", out).finish()
    put, again = Store.put, []

    def noting(self: Store, file: Path, name: str) -> None:
        again.append(name)
        put(self, file, name)

    monkeypatch.setattr(Store, "put", noting)
    begin(tmp_path / "mirror", out).finish()
    assert again
    assert not [name for name in again if name.startswith("checkpoints/")]


def test_a_place_that_cannot_be_written_is_said_at_the_end(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = begin(tmp_path / "mirror", out)
    write(tmp_path / "mirror", "a file")
    mirror.copy_soon()
    with pytest.raises(OSError, match="the same command") as error:
        mirror.finish()
    assert mentions(str(error.value), tmp_path / "mirror", out)
    assert mirror.failures == 1
    assert mentions(capsys.readouterr().err.splitlines()[0], tmp_path / "mirror")


def test_a_comparison_goes_on_from_its_mirror_on_another_node(
    small_dataset: Path, tmp_path: Path, rank_pool: RankPool
) -> None:
    config = CompareConfig(
        small_dataset, tmp_path / "plain", 64, log_every=2, seeds=2,
        model=ModelConfig(embedding_dim=4, bottom_mlp=(8,), head_mlp=(8,)), checkpoint=CheckpointConfig(every_steps=2),
    )  # fmt: skip
    assert rank_pool.run(2, compare, config) == ["", ""]
    place = tmp_path / "mirror"
    on_a = replace(config, out=tmp_path / "node a", mirror=place)
    for message in rank_pool.run(2, compare, on_a, 13):
        assert mentions(message, "Terminated", 4, 9)
    assert whole_checkpoints(place)[-1] == "step-00000004"
    on_b = replace(config, out=tmp_path / "node b", mirror=place)
    assert rank_pool.run(2, compare, on_b) == ["", ""]
    assert logs(on_b.out) == logs(config.out)
    names = ("comparison.json", "seed-0.json", "seed-1.json")
    assert [without_speed(read_json(on_b.out / name)) for name in names] == [
        without_speed(read_json(config.out / name)) for name in names
    ]
    assert tree(place) == tree(on_b.out)
