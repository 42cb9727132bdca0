"""The programs of docs/examples run, and do what they say."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.distributed.processes import Ranks
from docs.examples import experts, layer_under_ddp, own_method
from tests.distributed.training import assemble, run_config, train_steps
from tests.pages import ROOT
from tests.ranks import RankPool

OWN = "docs.examples.own_architecture"


@pytest.mark.parametrize("program", ["own_method", "own_architecture", "experts"])
def test_programs_run(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / f"docs/examples/{program}.py"), run_name="__main__")
    assert capsys.readouterr().out


def test_own_methods_reach_lower_losses_than_an_untrained_model() -> None:
    for method in ("UnitNorm", "AnchoredUncertainty+imtl_g"):
        name = f"docs.examples.own_method:{method}"
        assert sum(own_method.train(name, steps=50)) < 0.5 * sum(own_method.train(name, steps=1))


def test_shared_experts_get_the_weighted_sum_of_the_tasks_gradients() -> None:
    """Of a gradient from a pass of its own for each task, in float64; gates and towers keep their own."""
    model, of_tasks = experts.train()
    assert of_tasks.sum() < 0.5 * experts.train(steps=1)[1].sum()
    model.double().zero_grad()
    rows, labels = torch.randn(32, experts.FEATURES).double(), torch.randint(2, (32, experts.TASKS)).double()
    model.eval()  # where the layer is the identity
    alone = [
        torch.autograd.grad(loss, tuple(model.parameters()), materialize_grads=True)
        for loss in (experts.losses(model, rows, labels)[task] for task in range(experts.TASKS))
    ]
    model.train()
    experts.losses(model, rows, labels).sum().backward()
    record = model.layer.record
    assert record is not None
    weights = record.coefficients
    for (name, parameter), gradients in zip(model.named_parameters(), zip(*alone, strict=True), strict=True):
        shared = name.startswith(("bottom", "experts"))
        assert sum(each.any() for each in gradients) == (experts.TASKS if shared else 1)
        own = weights if shared else torch.ones(experts.TASKS)
        expected = sum(weight * each for weight, each in zip(own, gradients, strict=True))
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-15)


def trained_under_ddp(_: Ranks) -> list[Any]:
    return [values.numpy() for values in layer_under_ddp.train()]


def test_the_layer_under_ddp_trains_as_on_one_rank(rank_pool: RankPool) -> None:
    [(weights, task_weights)], *_ = one, two = [rank_pool.run(ranks, trained_under_ddp) for ranks in (1, 2)]
    assert len(one) == 1
    for each in two:
        np.testing.assert_allclose(each[0], weights, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(each[1], task_weights, rtol=1e-4)
    assert len(set(task_weights)) == 3


def test_an_own_interaction_and_architecture_train_as_on_one_rank(small_dataset: Path, rank_pool: RankPool) -> None:
    model = ModelConfig(f"{OWN}:BiInteraction", sharing=f"{OWN}:SharedAndOwn", head_mlp=(8,))
    config = run_config(small_dataset, model=model)
    one, two = (rank_pool.run(ranks, train_steps, config, "multibalance", 3) for ranks in (1, 2))
    expected = assemble(one, "final")
    for name, values in assemble(two, "final").items():
        np.testing.assert_allclose(values, expected[name], rtol=2e-4, atol=2e-6, err_msg=name)
    own = [name for name in expected if "sharing.own.task_" in name]
    assert own
    assert all(np.any(expected[name] != one[0]["initial"][name]) for name in own)
