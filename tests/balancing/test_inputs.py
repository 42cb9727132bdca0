"""Invalid inputs of the layer, and their errors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlrm_mtl.balancing import BalancingLayer, MultiBalance, ParameterLevelLayer
from tests.balancing.backward import backward_with


def values(**options: Any) -> Tensor:
    return torch.ones(4, 3, **options)


WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "tuple": (lambda: (values(), values()), TypeError, "a tuple"),
    "list": (lambda: [values()], TypeError, "a list"),
    "dict": (lambda: {"h": values()}, TypeError, "a dict"),
    "none": (lambda: None, TypeError, "a NoneType"),
    "number": (lambda: 1.0, TypeError, "a float"),
    "array": (lambda: values().numpy(), TypeError, "a ndarray"),
    "complex": (lambda: values(dtype=torch.complex64), TypeError, "torch.complex64"),
    "integers": (lambda: values(dtype=torch.int64), TypeError, "torch.int64"),
    "bools": (lambda: values(dtype=torch.bool), TypeError, "torch.bool"),
    "eight bits": (lambda: values().to(torch.float8_e4m3fn), TypeError, "float8"),
    "quantised": (lambda: torch.quantize_per_tensor(values(), 0.1, 0, torch.quint8), TypeError, "quint8"),
    "sparse": (lambda: values().to_sparse(), TypeError, "sparse_coo"),
    "sparse rows": (lambda: values().to_sparse_csr(), TypeError, "sparse_csr"),
    "nested": (lambda: torch.nested.nested_tensor([values(), values()]), TypeError, "nested"),
    "jagged": (lambda: torch.nested.nested_tensor([values(), values()], layout=torch.jagged), TypeError, "nested"),
    "no dimension": (lambda: torch.ones(()), ValueError, "without dimensions"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", WRONG)
def test_a_representation_of_the_wrong_kind(case: str, training: bool) -> None:
    make, error, named = WRONG[case]
    for layer in (BalancingLayer(MultiBalance(2)), ParameterLevelLayer(MultiBalance(2))):
        with pytest.raises(error, match=rf"representation is .*{named}.*expected one dense tensor \(B, D\)"):
            layer.train(training)(make())


def test_valid_representations() -> None:
    """Narrow dtypes, an empty batch, more dimensions, subclasses; and tensors that require no gradient."""
    for shape in ((4, 3), (0, 3), (4, 2, 3), (5,)):
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            layer = BalancingLayer(MultiBalance(2))
            combined = backward_with(layer, [torch.ones(shape, dtype=dtype)] * 2)
            assert combined.shape == shape
    assert len(BalancingLayer(MultiBalance(2))(nn.Parameter(values()))) == 2
    assert not BalancingLayer(MultiBalance(2))(values())[0].requires_grad


@pytest.mark.parametrize(
    ("losses", "error", "named"),
    [
        ([torch.ones(()), torch.ones(())], TypeError, "losses are a list"),
        (torch.ones(3), ValueError, r"\(3,\)"),
        (torch.ones(2, 1), ValueError, r"\(2, 1\)"),
        (torch.ones(()), ValueError, r"\(\)"),
        (torch.ones(2, dtype=torch.int64), TypeError, "int64"),
        (torch.ones(2, dtype=torch.complex64), TypeError, "complex64"),
        (torch.ones(2, device="meta"), ValueError, "on meta, expected cpu"),
    ],
)
def test_losses_of_the_wrong_kind(losses: Any, error: type[Exception], named: str) -> None:
    for layer in (BalancingLayer(MultiBalance(2)), ParameterLevelLayer(MultiBalance(2))):
        with pytest.raises(error, match=named):
            layer.weigh_losses(losses)


def transformed(kind: str, function: Callable[[Tensor], Tensor]) -> Any:
    match kind:
        case "grad":
            return torch.func.grad(function)(values())
        case "vjp":
            return torch.func.vjp(function, values())[1](torch.ones(()))
        case "jacrev":
            return torch.func.jacrev(function)(values())
        case "jvp":
            return torch.func.jvp(function, (values(),), (values(),))
        case _:
            return torch.vmap(function)(torch.ones(2, 4, 3, requires_grad=True))


@pytest.mark.parametrize("kind", ["grad", "vjp", "jacrev", "jvp", "vmap"])
def test_transforms_of_functions_are_refused(kind: str) -> None:
    layer = BalancingLayer(MultiBalance(2))
    with pytest.raises(RuntimeError, match=r"torch\.func"):
        transformed(kind, lambda x: torch.stack([view.sum() for view in layer(x)]).sum())


def test_tracing_of_an_evaluation() -> None:
    traced = torch.fx.symbolic_trace(BalancingLayer(MultiBalance(2)).eval())
    assert [torch.equal(view, values()) for view in traced(values())] == [True, True]


def test_second_derivatives_are_refused() -> None:
    layer = BalancingLayer(MultiBalance(2))
    shared = values(requires_grad=True)
    loss = torch.stack([view.square().sum() for view in layer(shared * 2)]).sum()
    [gradient] = torch.autograd.grad(loss, shared, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_replicas_of_one_process_are_refused() -> None:
    with pytest.raises(RuntimeError, match="DistributedDataParallel"):
        BalancingLayer(MultiBalance(2))._replicate_for_data_parallel()  # what DataParallel calls, on GPUs


def test_losses_of_an_evaluation_are_not_of_the_next_step() -> None:
    layer = BalancingLayer(MultiBalance(2))
    layer.eval()
    layer.weigh_losses(torch.full((2,), torch.nan))
    layer.train()
    with torch.no_grad():
        layer.weigh_losses(torch.full((2,), torch.nan))
    combined = backward_with(layer, list(torch.randn(2, 4, 3)))
    assert combined.isfinite().all()
