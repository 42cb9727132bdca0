"""Exports: the files, what is in them, and that they run without TorchRec, without this package, and in C++."""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dlrm_mtl.export_options import ExportOptions
from dlrm_mtl.schema import read_schema
from dlrm_mtl.serving.exported import open_export
from dlrm_mtl.serving.manifest import read_manifest
from dlrm_mtl.serving.served_model import model_inputs
from dlrm_mtl.serving.writing import write_export
from tests.datasets import make_dataset
from tests.entry_points.processes import QUIET_CPU, ROOT, complaint, python, run
from tests.messages import naming
from tests.serving.conftest import Exports
from tests.serving.models import real_batches

OUTPUTS = {"click": ("click",), "like": ("like",), "buy": ("buy",), "click_and_buy": ("click", "buy")}


def test_probabilities_are_those_of_the_trained_models(exports: Exports) -> None:
    for directory, arm in ((exports.float, "mean"), (exports.per_task, "single_task")):
        found = open_export(directory, compiled=False)(*exports.inputs).numpy()
        np.testing.assert_allclose(found[:, :3], exports.probabilities[arm], rtol=0, atol=1e-6)
        np.testing.assert_allclose(found[:, 3], found[:, 0] * found[:, 2], rtol=0, atol=1e-6)


def test_the_compiled_model_gives_the_same(exports: Exports) -> None:
    compiled, graph = open_export(exports.float), open_export(exports.float, compiled=False)
    dense, values, lengths = exports.inputs
    for inputs in ((dense, values, lengths), (dense[:1], values[:0], torch.zeros(4, 1, dtype=torch.int64))):
        torch.testing.assert_close(compiled(*inputs), graph(*inputs), rtol=0, atol=1e-6)
    no_rows = dense[:0], values[:0], lengths[:, :0]
    assert compiled(*no_rows).shape == graph(*no_rows).shape == (0, 4)


def test_the_manifest_says_what_the_model_takes_and_gives(exports: Exports) -> None:
    manifest = read_manifest(exports.float)
    schema = read_schema(exports.data)
    assert manifest.meaning == schema.meaning
    assert [(feature.name, feature.table) for feature in manifest.features] == [
        *(("user", "user"), ("item", "item"), ("history", "item"), ("tags", "tags")),
    ]
    assert manifest.dense == ("age", "price")
    assert {name: (table.rows, table.dim, table.copies) for name, table in manifest.tables.items()} == {
        "user": (50, 8, 1),
        "item": (30, 8, 1),
        "tags": (7, 8, 1),
    }
    assert {output.name: output.tasks for output in manifest.outputs} == OUTPUTS
    assert [(task.name, task.label, task.given) for task in manifest.tasks] == [
        (task.name, task.label, task.given) for task in schema.tasks
    ]
    assert manifest.relation == "esmm"
    assert [tensor.shape for tensor in (*manifest.inputs, manifest.output)] == [
        (None, 2),
        (None,),
        (4, None),
        (None, 4),
    ]
    source = manifest.source
    assert (source.checkpoint, source.arm, source.step) == (str(exports.checkpoint), "mean", 3)
    assert manifest.files.keys() == {
        *("model.pt2", "compiled.pt2", "encoding/encoding.json", "encoding/vocabulary/user.parquet")
    }
    assert manifest.processor is not None
    assert manifest.processor.machine == platform.machine()
    assert manifest.has_encoding
    per_task = read_manifest(exports.per_task)
    assert {table.copies for table in per_task.tables.values()} == {3}
    assert {output.name: output.tasks for output in per_task.outputs} == OUTPUTS
    assert per_task.processor is None


def test_the_manifest_says_what_int8_costs(exports: Exports) -> None:
    manifest = read_manifest(exports.int8)
    assert manifest.quantization is not None
    assert (manifest.quantization.data, manifest.quantization.rows) == (str(exports.data), 200)
    [batch] = real_batches(exports.data, 200)
    found = open_export(exports.int8)(*model_inputs(batch)).double().numpy()
    expected = open_export(exports.float, compiled=False)(*model_inputs(batch)).double().numpy()
    assert 0 < np.abs(found - expected).max() < 1e-3
    for name, column in {"click": 0, "buy": 2}.items():
        label, defined = batch.labels[:, column].numpy(), batch.weights[:, column].numpy() > 0
        ne = manifest.quantization.ne[name]
        assert ne.float_tables == pytest.approx(_ne(expected[defined, column], label[defined]), abs=1e-6)
        assert ne.int8_tables == pytest.approx(_ne(found[defined, column], label[defined]), abs=1e-6)
    both = manifest.quantization.ne["click_and_buy"]
    label = (batch.labels[:, 0] * batch.labels[:, 2]).numpy()
    assert both.int8_tables == pytest.approx(_ne(found[:, 3], label), abs=1e-6)


def _ne(probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.float32]) -> float:
    def log_loss(values: Any) -> Any:
        return -np.mean(np.where(labels > 0, np.log(values), np.log(1 - values)))

    return float(log_loss(probabilities) / log_loss(labels.mean(dtype=np.float64)))


WITHOUT_THIS_PACKAGE = """
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    names = {"torchrec", "dlrm_mtl", "fbgemm_gpu"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise AssertionError(f"imports {name}")

sys.meta_path.insert(0, Blocked())
import runpy
from pathlib import Path
import torch
example, float_export, int8_export, inputs, outputs = map(Path, sys.argv[1:])
load = runpy.run_path(str(example))["load"]
batch = torch.load(inputs, weights_only=True)
results = [load(float_export)[1](*batch), load(float_export, compiled=True)[1](*batch)]
Blocked.names.remove("fbgemm_gpu")
results.append(load(int8_export)[1](*batch))
torch.save(results, outputs)
"""


def test_it_runs_with_torch_alone(exports: Exports, tmp_path: Path) -> None:
    """And with int8 tables, with torch and fbgemm_gpu."""
    torch.save(exports.inputs, tmp_path / "inputs.pt")
    example = ROOT / "docs" / "examples" / "score_with_torch.py"
    files = [example, exports.float, exports.int8, tmp_path / "inputs.pt", tmp_path / "outputs.pt"]
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_THIS_PACKAGE, *map(str, files)],
        cwd=tmp_path,
        env=QUIET_CPU,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    expected = [
        open_export(directory, compiled)(*exports.inputs)
        for directory, compiled in ((exports.float, False), (exports.float, True), (exports.int8, False))
    ]
    for found, each in zip(torch.load(tmp_path / "outputs.pt", weights_only=True), expected, strict=True):
        assert torch.equal(found, each)


def test_inputs_of_another_form_are_refused(exports: Exports) -> None:
    export = open_export(exports.float)
    dense, values, lengths = exports.inputs
    for inputs, named in (
        ((dense.double(), values, lengths), ("dense", "float64")),
        ((dense[:, :1], values, lengths), ("dense", "(200, 1)", "(200, 2)")),
        ((dense, values.int(), lengths), ("values", "int32", "int64")),
        ((dense, values, lengths[:3]), ("lengths", "(3, 200)", "(4, 200)")),
        ((dense[1:], values, lengths), ("lengths", "(4, 200)", "(4, 199)")),
        ((dense, values[1:], lengths), ("lengths", len(values), len(values) - 1)),
    ):
        with pytest.raises(ValueError, match=naming(*named)):
            export(*inputs)
    too_large = values.clone()
    too_large[0] = 50
    for each in (open_export(exports.float, compiled=False), open_export(exports.int8)):
        with pytest.raises(RuntimeError, match="50"):
            each(dense, too_large, lengths)


def truncated(directory: Path, manifest: dict[str, Any]) -> None:
    model = directory / "model.pt2"
    model.write_bytes(model.read_bytes()[:-100])


def changed(directory: Path, manifest: dict[str, Any]) -> None:
    (directory / "encoding" / "encoding.json").write_text("{" + " " * 62 + "}")


def gone(directory: Path, manifest: dict[str, Any]) -> None:
    (directory / "compiled.pt2").unlink()


def of_another_architecture(directory: Path, manifest: dict[str, Any]) -> None:
    manifest["processor"]["machine"] = "s390x"


def of_a_better_processor(directory: Path, manifest: dict[str, Any]) -> None:
    manifest["processor"]["features"].append("avx1024")


def of_another_torch(directory: Path, manifest: dict[str, Any]) -> None:
    manifest["versions"]["torch"] = "2.99.0"


def outside(directory: Path, manifest: dict[str, Any]) -> None:
    manifest["files"]["../model.pt2"] = manifest["files"]["model.pt2"]


def of_a_later_format(directory: Path, manifest: dict[str, Any]) -> None:
    manifest["format"] = 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (truncated, ("model.pt2", "bytes")),
        (changed, ("encoding/encoding.json",)),
        (gone, ("compiled.pt2", "missing")),
        (of_another_architecture, ("compiled.pt2", "s390x", platform.machine())),
        (of_a_better_processor, ("compiled.pt2", "avx1024")),
        (of_another_torch, ("torch 2.99.0", torch.__version__)),
        (outside, ("manifest.json", "../model.pt2")),
        (of_a_later_format, ("manifest.json", "format 2")),
    ],
)
def test_a_damaged_or_foreign_export_is_refused(
    exports: Exports, tmp_path: Path, change: Callable[[Path, dict[str, Any]], None], named: tuple[str, ...]
) -> None:
    directory = tmp_path / "export"
    shutil.copytree(exports.float, directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    change(directory, manifest)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=naming(*named)):
        open_export(directory)


def test_no_export_and_no_compiled_model(exports: Exports, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=naming("manifest.json", "not found")):
        open_export(tmp_path)
    with pytest.raises(ValueError, match=naming(str(exports.int8), "--compile")):
        open_export(exports.int8, compiled=True)


def test_what_cannot_be_exported_is_said_in_one_line(exports: Exports, tmp_path: Path) -> None:
    """And nothing is left behind."""

    def refused(*options: str | Path) -> str:
        return complaint(python("dlrm_mtl.export", "--out", tmp_path / "out", *options))

    int8 = ("--checkpoint", exports.checkpoint, "--arm", "mean", "--precision", "int8")
    assert "--data" in refused(*int8)  # the checkpoint is in no run with a config.json
    other = make_dataset(tmp_path / "data")
    schema = json.loads((other / "schema.json").read_text())
    schema["fingerprints"]["tables"]["item"]["seed"] = 5
    (other / "schema.json").write_text(json.dumps(schema))
    assert "table 'item'" in refused(*int8, "--data", other)
    assert list(tmp_path.iterdir()) == [other]


def test_what_a_killed_export_left_is_replaced(exports: Exports, tmp_path: Path) -> None:
    partial = tmp_path / "out.partial"
    partial.mkdir()
    (partial / "model.pt2").write_bytes(b"the beginning")
    write_export(ExportOptions(exports.checkpoint, tmp_path / "out", "mean", exports.data))
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    read_manifest(tmp_path / "out")


def test_other_files_are_not_replaced(exports: Exports, tmp_path: Path) -> None:
    other = tmp_path / "out.partial" / "predictions.json"
    other.parent.mkdir()
    other.write_text("{}")
    with pytest.raises(ValueError, match=naming(other)):
        write_export(ExportOptions(exports.checkpoint, tmp_path / "out", "mean", exports.data))
    assert other.read_text() == "{}"


def test_the_compiler_is_looked_for_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(tmp_path / "no-compiler"),))
    with pytest.raises(ValueError, match=naming("compile", "CXX")):
        write_export(ExportOptions(tmp_path / "run", tmp_path / "out", compile=True))


def test_the_entry_point_says_what_it_wrote(exports: Exports) -> None:
    assert exports.process.returncode == 0, exports.process.stderr
    assert "model.pt2" in exports.process.stdout
    assert exports.process.stdout.splitlines()[-1] == f"export: {exports.per_task}"
    assert not read_manifest(exports.per_task).has_encoding
    again = python("dlrm_mtl.export", "--checkpoint", exports.checkpoint, "--out", exports.per_task)
    assert str(exports.per_task) in complaint(again)


@pytest.fixture(scope="module")
def cpp_scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if missing := [name for name in ("g++", "cmake") if shutil.which(name) is None]:
        pytest.skip(f"needs {missing[0]} to build the program")
    build = tmp_path_factory.mktemp("build")
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    for command in (
        ("cmake", "-S", ROOT / "docs/examples/cpp_scorer", "-B", build, prefix),
        ("cmake", "--build", build),
    ):
        process = run(*command)
        assert process.returncode == 0, process.stdout + process.stderr
    return build / "scorer"


def test_scores_in_cpp_are_those_of_python(cpp_scorer: Path, exports: Exports, tmp_path: Path) -> None:
    dense, values, lengths = (tensor.numpy() for tensor in exports.inputs)
    sizes = np.array([*dense.shape, len(lengths), len(values)])
    batch, scores = tmp_path / "batch", tmp_path / "scores"
    batch.write_bytes(b"".join(part.tobytes() for part in (sizes, dense, values, lengths)))
    process = run(cpp_scorer, exports.float / "compiled.pt2", batch, scores)
    assert process.returncode == 0, process.stderr
    expected = open_export(exports.float)(*exports.inputs).numpy()
    assert np.array_equal(np.fromfile(scores, np.float32).reshape(expected.shape), expected)

    scores.unlink()
    for damaged in (batch.read_bytes()[:-8], batch.read_bytes() + b"0", batch.read_bytes()[:-1] + b"1"):
        batch.write_bytes(damaged)
        process = run(cpp_scorer, exports.float / "compiled.pt2", batch, scores)
        assert process.returncode == 1
        assert process.stderr.startswith("scorer: ")
        assert not scores.exists()
        batch.write_bytes(b"".join(part.tobytes() for part in (sizes, dense, values, lengths)))
