"""Scores rows with an export, and PyTorch alone: neither TorchRec nor this project is installed.

python docs/examples/score_with_torch.py EXPORT
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Model = Callable[[Tensor, Tensor, Tensor], Tensor]


def load(export: Path, compiled: bool = False) -> tuple[dict[str, Any], Model]:
    """The manifest and the model of an export."""
    manifest = json.loads((export / "manifest.json").read_text())
    if manifest["precision"] == "int8":
        import fbgemm_gpu  # noqa: F401  has the operators of the tables
    if compiled:
        return manifest, torch._inductor.aoti_load_package(str(export / "compiled.pt2"))
    return manifest, torch.export.load(export / "model.pt2").module()


def main(export: Path, rows: int = 3) -> None:
    manifest, model = load(export)
    sizes = [manifest["tables"][feature["table"]]["rows"] for feature in manifest["features"]]
    dense = torch.randn(rows, len(manifest["dense"]))
    lengths = torch.randint(1, 3, (len(sizes), rows))  # ids of each feature in each row
    values = [torch.randint(size, (int(of.sum()),)) for size, of in zip(sizes, lengths, strict=True)]
    probabilities = model(dense, torch.cat(values), lengths)
    for output, column in zip(manifest["outputs"], probabilities.T, strict=True):
        print(output["name"], column.tolist())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
