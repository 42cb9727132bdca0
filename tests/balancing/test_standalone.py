"""The package in a plain PyTorch model: nothing else of the project is imported, nor torchrec."""

import subprocess
import sys

SCRIPT = """
import sys

import torch
from torch import nn

from dlrm_mtl.balancing import BalancingLayer, create_balancer

bottom = nn.Linear(4, 8)
heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(3))
loss = nn.BCEWithLogitsLoss()
labels = torch.rand(3, 16, 1).round()
representation = bottom(torch.randn(16, 4))

layer = BalancingLayer(create_balancer("multibalance", num_tasks=3))
losses = [loss(head(h), y) for head, h, y in zip(heads, layer(representation), labels)]
sum(losses).backward()

assert bottom.weight.grad.abs().sum() > 0
assert layer.balancer.step == 1
project = {name for name in sys.modules if name.split(".")[0] == "dlrm_mtl"}
others = {name for name in project - {"dlrm_mtl"} if not (name + ".").startswith("dlrm_mtl.balancing.")}
heavy = {"torchrec", "fbgemm_gpu", "torchjd", "pyarrow", "scipy", "tyro"} & set(sys.modules)
print("dlrm_mtl.balancing.layer" in project, sorted(others), sorted(heavy))
"""


def test_imports_of_a_plain_model() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[0] == "True [] []"
