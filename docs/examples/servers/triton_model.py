"""A model of Triton's Python backend: ``MODELS/ranker/1/model.py``, with the export beside it in ``1/export``."""

from pathlib import Path
from typing import Any

import torch
import triton_python_backend_utils as triton


class TritonPythonModel:
    """Ids and dense values to probabilities."""

    def initialize(self, arguments: dict[str, str]) -> None:
        version = Path(arguments["model_repository"]) / arguments["model_version"]
        self.model = torch.export.load(version / "export" / "model.pt2").module()

    @torch.no_grad()
    def execute(self, requests: list[Any]) -> list[Any]:
        responses = []
        for request in requests:
            inputs = (triton.get_input_tensor_by_name(request, name) for name in ("dense", "values", "lengths"))
            probabilities = self.model(*(torch.from_numpy(tensor.as_numpy()) for tensor in inputs))
            output = triton.Tensor("probabilities", probabilities.numpy())
            responses.append(triton.InferenceResponse([output]))
        return responses
