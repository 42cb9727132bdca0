"""Creating methods by name; errors for unknown names and options."""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dlrm_mtl.balancing import (
    MissingModuleError,
    available_balancers,
    balancer_options,
    create_balancer,
)
from dlrm_mtl.balancing.methods.create import METHODS
from tests.messages import naming

NAN, INF = float("nan"), float("inf")


def test_defaults_are_the_papers() -> None:
    assert balancer_options("multibalance") == {
        "beta": 1.0,
        "rho": 0.1,
        "gamma": 0.1,
        "prior": None,
        "direction": "cosine",
        "prior_in_direction": 0.0,
        "max_rescale": None,
    }
    assert create_balancer("multibalance", 4).task_weights().tolist() == [0.25] * 4


def test_unknown_name_lists_the_known() -> None:
    for call in (balancer_options, lambda name: create_balancer(name, 2)):
        with pytest.raises(ValueError, match="multibalence") as error:
            call("multibalence")
        assert all(name in str(error.value) for name in available_balancers())


def test_a_missing_torchjd_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(ValueError, match=r"dlrm-mtl\[torchjd\]"):
        create_balancer("torchjd:UPGrad", 3)


def test_unknown_option_lists_the_known() -> None:
    with pytest.raises(ValueError, match="betta") as error:
        create_balancer("multibalance", 2, betta=0.1)
    assert all(option in str(error.value) for option in balancer_options("multibalance"))
    with pytest.raises(ValueError, match=naming("mean", "beta")):
        create_balancer("mean", 2, beta=0.1)


SEEDS = [-1, 2**31, 1.0, True, None, "0"]


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("multibalance", "beta", [-0.1, NAN, INF, "1", None, True]),
        ("multibalance", "rho", [-0.1, NAN, INF, "1", None]),
        ("multibalance", "gamma", [0, -0.1, 1.1, NAN, "1", None]),
        ("multibalance", "prior", [[1.0], [0.5, 0.3, 0.2], [1.5, -0.5], [0.3, 0.3], [NAN, 1.0], [INF, 0.0], []]),
        ("multibalance", "prior", ["ab", 0.5]),
        ("multibalance", "direction", ["Cosine", "", None, 1]),
        ("multibalance", "prior_in_direction", [-0.1, NAN, INF, "1", None]),
        ("multibalance", "max_rescale", [0, -1.0, NAN, INF, "1"]),
        ("static", "weights", [[1.0], [1.0, 2.0, 3.0], [1.0, NAN], [INF, 1.0], [], "ab", ["a", "b"]]),
        ("mgda", "normalization", ["L2", "", None, 1]),
        ("sdmgrad", "rho", [-1, NAN]),
        ("sdmgrad", "prior", [[1.0], [0.5, 0.6]]),
        ("moco", "beta", [0, -0.1, 1.1, NAN, "1"]),
        ("moco", "step_size", [-0.1, INF, None]),
        ("moco", "rho", [-0.1, True]),
        ("moco", "decay", [-0.5, "half"]),
        ("cagrad", "c", [-0.1, INF]),
        ("cagrad", "rescale", ["sum", 1]),
        ("db_mtl", "target", ["Max", "", None, 1]),
        ("db_mtl", "log_losses", [1, "yes", None]),
        ("db_mtl", "average", [-0.1, 1, 1.5, NAN, "0", None]),
        ("graddrop", "leak", [-0.1, 1.1, NAN, "0", None]),
        ("graddrop", "seed", SEEDS),
        ("gradvac", "beta", [0, -0.1, 1.1, NAN, "1", None]),
        ("gradvac", "seed", SEEDS),
        ("pcgrad", "seed", SEEDS),
        ("dwa", "window", [0, -1, 2.0, NAN, "1", None, True]),
        ("dwa", "temperature", [0, -1, NAN, INF, "1", None]),
        ("famo", "learning_rate", [-0.1, NAN, INF, "1", None]),
        ("famo", "decay", [-0.1, NAN, INF, "1", None]),
        ("stch", "mu", [0, -1, NAN, INF, "1", None]),
        ("stch", "prior", [[1.0], [0.5, 0.6]]),
        ("stch", "ideal", [[1.0], [1.0, NAN], [], "ab", {"task0": 1.0}]),
    ],
)
def test_option_out_of_range(name: str, option: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"\b{option} (is|are) "):
            create_balancer(name, 2, **{option: value})


@pytest.mark.parametrize(
    "options",
    [
        {"beta": 0},
        {"rho": 0},
        {"gamma": 1},
        {"prior": [0.0, 1.0]},
        {"prior": (1 / 3, 2 / 3)},
        {"direction": "gradient"},
        {"prior_in_direction": 0},
        {"max_rescale": 0.5},
        {"beta": lambda step: 0.1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_multibalance_option_at_the_edge_of_its_range(options: dict[str, Any]) -> None:
    create_balancer("multibalance", 2, **options).combine(torch.ones(2, 3))


@pytest.mark.parametrize("name", available_balancers())
@pytest.mark.parametrize("num_tasks", [0, -1])
def test_number_of_tasks_out_of_range(name: str, num_tasks: int) -> None:
    with pytest.raises(ValueError, match="num_tasks"):
        create_balancer(name, num_tasks)


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["a", "a"]])
def test_task_names_that_are_not_one_each(names: list[str]) -> None:
    with pytest.raises(ValueError, match=naming(2, "task names")):
        create_balancer("mean", 2, task_names=names)


@pytest.mark.parametrize("name", available_balancers())
def test_task_names_are_kept(name: str) -> None:
    assert create_balancer(name, 2, task_names=["click", "like"]).task_names == ("click", "like")


@pytest.mark.parametrize("name", ["multibalance", "multibalance_recommended", "sdmgrad", "stch"])
def test_a_prior_by_name_is_that_of_the_tasks_that_are_there(name: str) -> None:
    by_name = create_balancer(name, 2, task_names=["b", "a"], prior={"a": 1, "gone": 5, "b": 3})
    assert by_name.get_buffer("prior").tolist() == [0.75, 0.25]
    for prior in ({"a": 1}, {"a": 0, "b": 0}, {"a": -1, "b": 2}, {"a": "1", "b": 1}):
        with pytest.raises(ValueError, match="prior is "):
            create_balancer(name, 2, task_names=["b", "a"], prior=prior)


def test_static_weights_by_name_are_used_as_they_are() -> None:
    balancer = create_balancer("static", 2, task_names=["b", "a"], weights={"a": 0.5, "gone": 5, "b": 3})
    assert balancer.task_weights().tolist() == [3.0, 0.5]


@pytest.mark.parametrize("shape", [(3, 4), (2,), (2, 3, 4)])
def test_combine_takes_one_row_per_task(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected \\(2, N\\)"):
        create_balancer("mean", 2).combine(torch.ones(shape))


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 8])
@pytest.mark.parametrize("name", sorted(set(METHODS) - {"sum"}))
def test_identical_gradients_give_their_mean(name: str, num_tasks: int) -> None:
    balancer = create_balancer(name, num_tasks)
    gradient = torch.randn(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(5):
        combined = balancer.combine(gradient.repeat(num_tasks, 1), torch.ones(num_tasks))
        torch.testing.assert_close(combined, gradient, rtol=1e-9, atol=1e-12)


def test_identical_gradients_add_up_under_sum() -> None:
    combined = create_balancer("sum", 3).combine(torch.ones(3, 4))
    assert combined.tolist() == [3.0] * 4


OWN = """
from dlrm_mtl.balancing import Balancer, LossWeighting

class Own(Balancer):
    measures = "nothing"

    def __init__(self, num_tasks, scale=1.0, *, shift, task_names=None):
        super().__init__(num_tasks, task_names)
        self.scale, self.shift = scale, shift

    def coefficients(self, statistic, losses):
        return statistic.new_tensor([self.scale + self.shift] * self.num_tasks), {}

class Doubled(LossWeighting):
    def forward(self, losses):
        return 2 * losses

    def weights(self):
        return 2 + 0 * self.stacked()

class Unnamed(Balancer):
    def __init__(self, num_tasks):
        super().__init__(num_tasks)

class Neither:
    pass

value = 1
"""


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_methods").mkdir()
    (tmp_path / "own_methods" / "plain.py").write_text(OWN)
    (tmp_path / "own_methods" / "raising.py").write_text("x = 1\nraise RuntimeError('two\\nlines')\n")
    (tmp_path / "own_methods" / "leaving.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "own_methods" / "needing.py").write_text("import a_module_that_is_nowhere\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    for name in [name for name in sys.modules if name.startswith("own_methods")]:
        del sys.modules[name]


@pytest.mark.usefixtures("own_modules")
def test_a_class_of_ones_own() -> None:
    name = "own_methods.plain:Own"
    assert balancer_options(name) == {"scale": 1.0, "shift": inspect.Parameter.empty}
    balancer = create_balancer(name, 2, task_names=["a", "b"], shift=2.0)
    assert balancer.task_names == ("a", "b")
    assert balancer.combine(torch.ones(2, 3)).tolist() == [6.0] * 3
    weighted = create_balancer(f"own_methods.plain:Doubled+{name}", 2, shift=0.0)
    assert weighted.combine(torch.ones(2, 3)).tolist() == [4.0] * 3
    assert create_balancer("own_methods.plain:Doubled", 2).combine(torch.ones(2, 3)).tolist() == [2.0] * 3


@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_methods.plain:Own", "'shift'"),
        ("own_methods.plain:Unnamed", "'task_names'"),
        ("own_methods.plain:Neither", "Balancer or LossWeighting"),
        ("own_methods.plain:value", "'value'"),
        ("own_methods.plain:Absent", "'Absent'"),
        ("own_methods.raising:Own", "raising.py, line 2: RuntimeError"),
        ("own_methods.leaving:Own", "leaving.py, line 1: SystemExit"),
        ("own_methods.needing:Own", "a_module_that_is_nowhere"),
        ("own_methods.plain:Doubled+own_methods.plain:Doubled", "weighs the losses twice"),
        ("mean+imtl_g", "loss weighting"),
    ],
)
def test_a_class_that_cannot_be_created(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        create_balancer(name, 2)
    assert not isinstance(error.value, MissingModuleError)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["own_methods_elsewhere:Own", "dlrm_mtl.own.methods:Own"])
def test_a_module_that_is_missing(name: str) -> None:
    with pytest.raises(MissingModuleError, match=r"own"):
        create_balancer(name, 2)
