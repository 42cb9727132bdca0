"""docs/examples/servers: the handlers answer with the probabilities of the export."""

import re
import runpy
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dlrm_mtl.serving import Scorer
from tests.pages import ROOT
from tests.serving.raw_export import RawExport

SERVERS = ROOT / "docs/examples/servers"


class HTTPException(Exception):
    def __init__(self, status_code: int, detail: str) -> None:
        super().__init__(detail)
        self.status_code = status_code


class FastAPI:
    """What the example uses of it."""

    def post(self, path: str) -> Any:
        return lambda handler: handler


def test_fastapi(raw_export: RawExport, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("fastapi") is None:
        module = SimpleNamespace(FastAPI=FastAPI, HTTPException=HTTPException)
        monkeypatch.setitem(sys.modules, "fastapi", module)  # type: ignore[arg-type]
    monkeypatch.setenv("EXPORT", str(raw_export.directory))
    handler = runpy.run_path(str(SERVERS / "fastapi_server.py"))["score"]
    assert handler(raw_export.rows) == Scorer(raw_export.directory).score(raw_export.rows).to_pylist()
    with pytest.raises(Exception, match="'weight'") as error:
        handler([{**raw_export.rows[0], "weight": "heavy"}])
    assert getattr(error.value, "status_code", None) == 422


def test_triton(raw_export: RawExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tensor:
        def __init__(self, name: str, values: np.ndarray) -> None:
            self.name, self.values = name, values

        def as_numpy(self) -> np.ndarray:
            return self.values

    module = SimpleNamespace(
        Tensor=Tensor,
        InferenceResponse=lambda tensors: tensors,
        get_input_tensor_by_name=lambda request, name: request[name],
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)  # type: ignore[arg-type]
    shutil.copytree(raw_export.directory, tmp_path / "1" / "export")
    model = runpy.run_path(str(SERVERS / "triton_model.py"))["TritonPythonModel"]()
    model.initialize({"model_repository": str(tmp_path), "model_version": "1"})
    inputs = raw_export.inputs
    names = re.findall(r'name: "(\w+)", data_type: TYPE_(\w+)', (SERVERS / "config.pbtxt").read_text())
    assert [name for name, _ in names] == ["dense", "values", "lengths", "probabilities"]
    kinds = {"FP32": torch.float32, "INT64": torch.int64}
    assert [kinds[kind] for _, kind in names[:3]] == [tensor.dtype for tensor in inputs]
    request = {name: Tensor(name, tensor.numpy()) for (name, _), tensor in zip(names, inputs, strict=False)}
    [[answer], _] = model.execute([request, request])
    assert answer.name == "probabilities"
    expected = Scorer(raw_export.directory).score(raw_export.rows)
    np.testing.assert_allclose(answer.values, np.stack([np.asarray(column) for column in expected], axis=1), atol=1e-7)
