"""The C++ program that scores with a compiled export: its output is Python's."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dlrm_mtl.serving.exported import open_export
from tests.entry_points.processes import ROOT, run
from tests.serving.conftest import Exports

SOURCES = ROOT / "docs" / "examples" / "cpp_scorer"


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if missing := [name for name in ("g++", "cmake") if shutil.which(name) is None]:
        pytest.skip(f"needs {missing[0]} to build the program")
    build = tmp_path_factory.mktemp("build")
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    for command in (("cmake", "-S", SOURCES, "-B", build, prefix), ("cmake", "--build", build)):
        process = run(*command)
        assert process.returncode == 0, process.stdout + process.stderr
    return build / "scorer"


def test_scores_are_those_of_python(scorer: Path, exports: Exports, tmp_path: Path) -> None:
    dense, values, lengths = (tensor.numpy() for tensor in exports.inputs)
    sizes = np.array([*dense.shape, len(lengths), len(values)])
    batch, scores = tmp_path / "batch", tmp_path / "scores"
    batch.write_bytes(b"".join(part.tobytes() for part in (sizes, dense, values, lengths)))
    process = run(scorer, exports.float / "compiled.pt2", batch, scores)
    assert process.returncode == 0, process.stderr
    expected = open_export(exports.float)(*exports.inputs).numpy()
    assert np.array_equal(np.fromfile(scores, np.float32).reshape(expected.shape), expected)

    scores.unlink()
    for damaged in (batch.read_bytes()[:-8], batch.read_bytes() + b"0", batch.read_bytes()[:-1] + b"1"):
        batch.write_bytes(damaged)
        process = run(scorer, exports.float / "compiled.pt2", batch, scores)
        assert process.returncode == 1
        assert process.stderr.startswith("scorer: ")
        assert not scores.exists()
        batch.write_bytes(b"".join(part.tobytes() for part in (sizes, dense, values, lengths)))
