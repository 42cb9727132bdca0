"""A mirror in an object store, whose requests fail now and then."""

from pathlib import Path

import pytest

from dlrm_mtl.distributed.checkpoint_directory import checkpoint_path, remove
from dlrm_mtl.storage import store
from tests.monitoring.test_mirror import begin, save, tree, write
from tests.storage.s3_server import S3Server


@pytest.mark.parametrize("fail_every", [0, 3])
def test_a_run_is_restored_from_the_store(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_every: int
) -> None:
    monkeypatch.setattr(store, "DELAYS_S", (0.0,) * 20)
    s3.fail_every = fail_every
    out, elsewhere, place = tmp_path / "a", tmp_path / "b", s3.root / f"runs/fails every {fail_every}"
    write(out / "config.json", "{}")
    write(out / "starts.jsonl", "{}\n")
    save(out, 10, "weights" * 100_000)
    mirror = begin(place, out)
    mirror.copy()
    save(out, 20)
    save(out, 30)
    remove(checkpoint_path(out / "checkpoints", 10))
    mirror.finish()
    begin(place, elsewhere)
    assert tree(elsewhere) == tree(out)
    assert (s3.failed > 0) == (fail_every > 0)
