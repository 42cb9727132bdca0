"""Options that every method takes."""

from typing import Any

import numpy as np
import pytest
import torch

from dlrm_mtl.balancing import Balancer, BalancingLayer, create_balancer
from dlrm_mtl.balancing.layer import Reduction
from tests.balancing.backward import backward_with
from tests.balancing.methods.cases import coefficients, sequence
from tests.balancing.methods.test_invariants import BY_COEFFICIENTS, Method, create, losses_of, method_id
from tests.balancing.resuming import REDUCTIONS

METHODS: list[Method] = [
    *BY_COEFFICIENTS,
    ("multibalance", {"prior": [0.5, 0.3, 0.2]}),
    ("multibalance_recommended", {}),
    ("uncertainty+mgda", {}),
    ("torchjd:UPGrad", {}),
    ("docs.examples.own_method:UnitNorm", {}),
]
every_method = pytest.mark.parametrize("method", METHODS, ids=method_id)


@every_method
def test_mix_adds_a_share_of_the_mean(method: Method) -> None:
    """To the coefficients, and not to the method's state."""
    plain, mixed = create(method, 3), create(method, 3, mix=0.5)
    for step, rows in enumerate(sequence(3)):
        losses = losses_of(3, step)
        if step == 4:
            rows[1, 2] = np.nan
        expected = coefficients(plain, rows, losses)
        np.testing.assert_allclose(coefficients(mixed, rows, losses), (expected + 0.5 / 3) / 1.5, rtol=1e-14)
        assert torch.equal(mixed.task_weights(), plain.task_weights())
    for key, value in plain.state_dict().items():
        assert torch.equal(mixed.state_dict()[key], value), key


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_layer_mixes_from_the_first_step(reduction: Reduction) -> None:
    plain, mixed = (
        BalancingLayer(create_balancer("multibalance", 3, prior=[0.5, 0.3, 0.2], mix=mix), reduction=reduction)
        for mix in (0, 2.0)
    )
    for rows in map(torch.from_numpy, sequence(3)):
        gradients = list(rows[:, None])
        expected = (backward_with(plain, gradients) + 2 * rows.mean(dim=0)) / 3
        torch.testing.assert_close(backward_with(mixed, gradients), expected)


@pytest.mark.parametrize("name", ["mean", "sum", "static", "graddrop", "uncertainty", "imtl_l", "imtl_l+graddrop"])
@pytest.mark.parametrize("options", [{"mix": 0.5}])
def test_methods_without_coefficients_of_the_batch_refuse(name: str, options: dict[str, Any]) -> None:
    (option,) = options
    with pytest.raises(ValueError, match=option):
        create_balancer(name, 3, **options)


@pytest.mark.parametrize(("option", "values"), [("mix", [-0.1, float("nan"), float("inf"), "1", None, True])])
@pytest.mark.parametrize("name", ["nash_mtl", "torchjd:UPGrad"])
def test_out_of_range(name: str, option: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"\b{option} is "):
            create_balancer(name, 3, **{option: value})


class OwnMix(Balancer):
    """Has an option of its own with the name of a common one."""

    def __init__(self, num_tasks: int, mix: str = "", task_names: Any = None) -> None:
        super().__init__(num_tasks, task_names)
        self.mix = mix


def test_an_option_of_the_method_itself_goes_to_it() -> None:
    balancer = create_balancer(f"{__name__}:OwnMix", 2, mix="own")
    assert isinstance(balancer, OwnMix)
    assert balancer.mix == "own"
