"""Options that every method takes."""

from typing import Any

import numpy as np
import pytest
import torch

from dlrm_mtl.balancing import Balancer, BalancingLayer, ParameterLevelLayer, create_balancer
from dlrm_mtl.balancing.algebra.arrays import Array
from dlrm_mtl.balancing.layer import Reduction
from tests.balancing.backward import backward_with
from tests.balancing.methods.cases import coefficients, sequence
from tests.balancing.methods.test_invariants import BY_COEFFICIENTS, Method, create, losses_of, method_id
from tests.balancing.resuming import REDUCTIONS


class RandomWeights(Balancer):
    """Coefficients that follow from the step alone."""

    measures = "nothing"

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        generator = torch.Generator().manual_seed(int(self.step))
        return torch.randn(self.num_tasks, generator=generator, dtype=torch.float64).softmax(0), {}


METHODS: list[Method] = [
    *BY_COEFFICIENTS,
    ("multibalance", {"prior": [0.5, 0.3, 0.2]}),
    ("multibalance_recommended", {}),
    ("uncertainty+mgda", {}),
    ("torchjd:UPGrad", {}),
    ("docs.examples.own_method:UnitNorm", {}),
    (f"{__name__}:RandomWeights", {}),
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


@every_method
def test_fade_turns_the_coefficients_into_the_mean(method: Method) -> None:
    """Together with ``every``, the steps of a period share the coefficients of its first one."""
    plain, fading, reusing = create(method, 3), create(method, 3, fade=4), create(method, 3, fade=8, every=2)
    for step, rows in enumerate(sequence(3)[:6]):
        losses = losses_of(3, step)
        expected = coefficients(plain, rows, losses)
        share = min(step / 4, 1)
        faded = (1 - share) * expected + share / 3
        np.testing.assert_allclose(coefficients(fading, rows, losses), faded, rtol=1e-14, atol=1e-14)
        first = reusing.combine(torch.from_numpy(rows), torch.from_numpy(losses))
        again = reusing.combine(torch.from_numpy(rows), torch.from_numpy(losses))
        scale = [1.0] * 3 if plain.loss_weighting is None else plain.loss_weighting.weights().tolist()
        np.testing.assert_allclose(first, (faded * scale) @ rows, rtol=1e-12)
        np.testing.assert_allclose(again, first, rtol=1e-12)
        assert torch.equal(fading.task_weights(), plain.task_weights())


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


@every_method
def test_every_reuses_the_coefficients_of_one_step(method: Method) -> None:
    """They are those of a method that sees that step's gradients alone."""
    plain, reusing = create(method, 3), create(method, 3, every=3)
    for step, rows in enumerate(sequence(3)):
        losses = losses_of(3, step)
        if step % 3 == 0:
            expected = coefficients(plain, rows, losses)
        actual = reusing.combine(torch.from_numpy(rows), torch.from_numpy(losses))
        scale = [1.0] * 3 if plain.loss_weighting is None else plain.loss_weighting.weights().tolist()
        np.testing.assert_allclose(actual, (expected * scale) @ rows, rtol=1e-12)
        assert torch.equal(reusing.task_weights(), plain.task_weights())


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("method", [("multibalance", {"prior": [0.5, 0.3, 0.2]}), ("moco", {})], ids=method_id)
def test_the_layer_reuses(method: Method, reduction: Reduction) -> None:
    """A step that is not finite, measuring (3) or not (4), does not move the others: 6 measures again. With "delayed",
    coefficients follow from the measuring step before."""
    layer = BalancingLayer(create(method, 3, every=3, mix=0.5), reduction=reduction)
    twin = create(method, 3, mix=0.5)
    used = twin.mixed(twin.initial_coefficients()).clone()
    pending: list[torch.Tensor] = []
    for step, rows in enumerate(sequence(3)):
        gradients = list(torch.from_numpy(rows)[:, None])
        if step in (3, 4):
            gradients[1][0, 2] = torch.nan
        if step % 3 == 0:
            pending.append(twin.measure(gradients, torch.device("cpu")))
            if reduction != "delayed" or step > 0:
                used = twin.update(pending.pop(0), None, used.clone()).clone()
        actual = backward_with(layer, gradients)
        expected = torch.tensordot(used, torch.stack(gradients), 1)
        torch.testing.assert_close(
            actual, torch.full_like(actual, torch.nan) if step in (3, 4) else expected, equal_nan=True
        )
    assert layer.balancer.nonfinite_steps == twin.nonfinite_steps == 1
    layer.reset_parameters()
    assert layer.balancer.measures_now == twin.measures


def test_parameter_level_balancing_refuses_every() -> None:
    with pytest.raises(ValueError, match="every is 2"):
        ParameterLevelLayer(create_balancer("mgda", 3, every=2))


@pytest.mark.parametrize("name", ["mean", "sum", "static", "graddrop", "uncertainty", "imtl_l", "imtl_l+graddrop"])
@pytest.mark.parametrize("options", [{"mix": 0.5}, {"fade": 5}, {"every": 2}])
def test_methods_without_coefficients_that_change_refuse(name: str, options: dict[str, Any]) -> None:
    (option,) = options
    with pytest.raises(ValueError, match=option):
        create_balancer(name, 3, **options)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("mix", [-0.1, float("nan"), float("inf"), "1", None, True]),
        ("fade", [-1, 2.0, "2", None, True]),
        ("every", [0, -1, 2.0, "2", None, True]),
    ],
)
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


def test_micro_batches_are_one_step() -> None:
    """All are weighed alike, and the next step reuses."""
    layer = BalancingLayer(create_balancer("nash_mtl", 3, every=2), reduction="delayed")
    measured = []
    for rows in map(torch.from_numpy, sequence(3)[:6]):
        measured.append(layer.balancer.measures_now)
        gradients = list(rows[:, None])
        with layer.accumulating():
            first = backward_with(layer, gradients)
        torch.testing.assert_close(backward_with(layer, gradients), first, rtol=0, atol=0)
    assert measured == ["gramian", "nothing"] * 3
    assert layer.balancer.step == 2  # the last measured step is under way
