"""Steps of methods in C give what the methods give."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mtl.balancing import MultiBalance, create_balancer
from dlrm_mtl.balancing.kernels.compiled_methods import compiled_coefficients
from dlrm_mtl.balancing.methods.recommended import MultiBalanceRecommended
from tests.balancing.kernel_settings import fresh_kernels

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "beta": st.sampled_from([0, 0.1, 1, 20.0]),
        "rho": st.sampled_from([0.0, 0.1, 3.0]),
        "gamma": st.sampled_from([0.05, 1.0]),
        "prior_in_direction": st.sampled_from([0.0, 0.5]),
        "max_rescale": st.sampled_from([None, 0.7, 2.0]),
    },
)
MAGNITUDES = st.sampled_from([0.0, 1e-160, 1e-6, 1.0, 1e3, 1e80])


@given(data=st.data())
@pytest.mark.parametrize("name", ["multibalance", "multibalance_recommended"])
def test_consecutive_steps(name: str, data: st.DataObject) -> None:
    num_tasks = data.draw(st.integers(1, 16))
    options: dict[str, Any] = data.draw(OPTIONS)
    if name == "multibalance":
        options["direction"] = data.draw(st.sampled_from(["cosine", "gradient"]))
    method = create_balancer(name, num_tasks, **options)
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    for _ in range(4):
        magnitudes = np.array(data.draw(st.lists(MAGNITUDES, min_size=num_tasks, max_size=num_tasks)))
        gradients = generator.normal(size=(num_tasks, 3)) * magnitudes[:, None]
        if num_tasks > 1 and data.draw(st.booleans()):
            gradients[1] = -gradients[0]
        gramian = gradients @ gradients.T
        with np.errstate(all="ignore"):
            expected, state = method.coefficients(gramian, None)
        compiled = compiled_coefficients(method, gramian)
        assert compiled is not None
        np.testing.assert_allclose(compiled[0], expected, rtol=1e-9, atol=1e-12)
        assert compiled[1].keys() == state.keys()
        for key, values in state.items():
            np.testing.assert_allclose(compiled[1][key], values, rtol=1e-9, atol=1e-12)
        method.update(gramian)


class Mine(MultiBalance):
    portable = True


@pytest.mark.parametrize(
    "method", [create_balancer("mgda", 3), Mine(3), MultiBalance(3, lambda step: 1 / (1 + step)), MultiBalance(17)]
)
def test_the_method_itself_is_asked(method: Any) -> None:
    assert compiled_coefficients(method, np.eye(method.num_tasks)) is None


def test_what_is_replaced_on_an_object_is_called() -> None:
    method = MultiBalanceRecommended(3)
    method.coefficients = lambda statistic, losses: (np.array([1.0, 2.0, 3.0]), {})  # type: ignore[method-assign]
    assert method.update(np.eye(3)).tolist() == [1.0, 2.0, 3.0]


def test_switched_off() -> None:
    with fresh_kernels("plain"):
        assert compiled_coefficients(MultiBalance(3), np.eye(3)) is None
