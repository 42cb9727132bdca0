"""The model in a checkpoint, read without a process group."""

import warnings
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.state_dict_saver import save

from dlrm_mtl.distributed.checkpoint_directory import record_files, write_manifest
from dlrm_mtl.distributed.checkpoint_format import TensorWriter
from dlrm_mtl.distributed.saved_model import read_model
from tests.messages import naming

MEAN, OTHER = torch.arange(6.0).reshape(2, 3), torch.ones(4, dtype=torch.float64)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of two arms."""
    tensors = {"0/model/head.weight": MEAN, "0/optimizer/head.weight/exp_avg": OTHER, "1/model/head.weight": OTHER}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        save(tensors, storage_writer=TensorWriter(tmp_path), no_dist=True)
    files = record_files(tmp_path, sorted(path.name for path in tmp_path.iterdir()))
    records = {name: {"bytes": size, "sha256": checksum} for name, size, checksum in files}
    write_manifest(tmp_path, {"format": 1, "step": 5, "files": records, "arms": ["mean", "multibalance:beta=0.1"]})
    return tmp_path


@pytest.mark.parametrize(("arm", "expected"), [(None, MEAN), ("mean", MEAN), ("multibalance:beta=0.1", OTHER)])
def test_an_arms_parameters_by_their_names(checkpoint: Path, arm: str | None, expected: torch.Tensor) -> None:
    model = read_model(checkpoint, arm)
    assert list(model) == ["head.weight"]
    assert model["head.weight"].equal(expected)


def test_what_is_wrong_is_named(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=naming("'sum'", "mean, multibalance:beta=0.1")):
        read_model(checkpoint, "sum")
    [data] = checkpoint.glob("*.distcp")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ValueError, match=data.name):
        read_model(checkpoint)
    with pytest.raises(ValueError, match=naming("checkpoint.json", "not found")):
        read_model(checkpoint / "nothing")
