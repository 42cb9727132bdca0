"""Fixtures of all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.datasets import make_dataset
from tests.ranks import RankPool


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests marked ``gpu`` where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU that torch sees"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Directory of the real data sets: DLRM_MTL_TEST_DATA, else ``shared/data`` beside the repository."""
    named = os.environ.get("DLRM_MTL_TEST_DATA")
    directory = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not directory.is_dir():
        pytest.skip(f"no real data: {directory} is not there; set DLRM_MTL_TEST_DATA to a directory that holds it")
    return directory


@pytest.fixture(scope="session")
def rank_pool() -> Iterator[RankPool]:
    """Processes for tests on several ranks."""
    pool = RankPool()
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 600 training and 200 eval rows with every kind of column; not to be changed."""
    return make_dataset(tmp_path_factory.mktemp("data") / "small")
