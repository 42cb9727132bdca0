"""Fixtures of all tests."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch

from dlrm_mtl.imports import without_garbage_collection
from tests.datasets import make_dataset
from tests.ranks import RankPool
from tests.regression_data import make_regression_dataset

ROOT = Path(__file__).resolve().parents[1]
KERNELS = ROOT / "dlrm_mtl/balancing/kernels"


def pytest_configure(config: pytest.Config) -> None:
    """Builds the C functions in place if they are missing or older than their sources, since the checkout may not be
    the installed one.

    Raises:
        RuntimeError: they cannot be built.
    """
    if hasattr(config, "workerinput"):  # of pytest-xdist, whose controller has built them
        return
    if not built_after_sources():
        with tempfile.TemporaryDirectory() as scratch:
            places = ["--inplace", "--build-lib", scratch, "--build-temp", scratch]
            build = [sys.executable, "setup.py", "build_ext", *places]
            outcome = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
        if not built_after_sources():
            raise RuntimeError(f"the tests need the C functions, which a C compiler builds:\n{outcome.stderr}")


def built_after_sources() -> bool:
    """Whether the C functions are those of the present sources."""
    sources = max(path.stat().st_mtime for path in [ROOT / "setup.py", *(KERNELS / "c").iterdir()])
    return any(built.stat().st_mtime > sources for built in KERNELS.glob("c_functions.*"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Imports all tests, and the libraries with them, in half the time."""
    with without_garbage_collection():
        return (yield)


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


@pytest.fixture(scope="session")
def regression_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with regression tasks and row weights, see :mod:`tests.regression_data`; not to be changed."""
    return make_regression_dataset(tmp_path_factory.mktemp("data") / "numbers")
