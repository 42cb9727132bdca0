"""Some endings of runs with readers; ``python -m tests.faults`` runs all."""

from pathlib import Path

import pytest

from tests.children import processes_with
from tests.datasets import make_dataset
from tests.entry_points.processes import complaint, python
from tests.faults.endings import MARK, OPTIONS, PLAIN, READER, run_case
from tests.messages import mentions


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "data", rows=2400)


@pytest.mark.parametrize(("readers", "name"), [(2, "SIGTERM while readers start"), (1, "SIGINT while readers start")])
def test_a_struck_run_is_gone_soon_with_its_code_and_reason(
    data: Path, tmp_path: Path, readers: int, name: str
) -> None:
    assert not run_case(tmp_path, data, PLAIN, readers, name)


def test_a_refused_run_leaves_no_readers(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, str(tmp_path))
    options = [*OPTIONS, "--reader.workers", "2", "--optimizer.dense-lr", "1e30", "--max-nonfinite-steps", "2"]
    process = python("dlrm_mtl.train", "--data", data, "--out", tmp_path / "run", *options)
    assert mentions(complaint(process), "steps", "skipped")
    assert not [command for command in processes_with(MARK, str(tmp_path)).values() if READER in command]
