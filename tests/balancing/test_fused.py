"""Large gradients: compiled operations are taken, agree with float64, and give way to plain ones where they must."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.utils import counters
from torch._inductor.utils import run_and_get_code
from torch.utils.flop_counter import FlopCounterMode

from dlrm_mtl.balancing import BalancingLayer, MultiBalance
from dlrm_mtl.balancing.fused import ROW_ELEMENTS, fused_products, is_fused, least_elements
from dlrm_mtl.balancing.gramian import combine_gradients, local_gramian
from tests.entry_points.processes import environment, run

CPU = torch.device("cpu")
HALF_ULP = {torch.float64: 0.0, torch.float32: 0.0, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
BALANCE = Path(__file__).with_name("balance_large.py")

LEAST = least_elements(2)

Layout = Callable[[Tensor], Tensor]
LAYOUTS: dict[str, Layout] = {
    "contiguous": Tensor.clone,
    "transposed": lambda gradient: gradient.T.contiguous().T,
    "expanded": lambda gradient: gradient[:1].expand_as(gradient),
    "strided": lambda gradient: gradient.repeat(1, 2)[:, : gradient.shape[1]],
    "offset": lambda gradient: torch.cat([gradient.new_zeros(1), gradient.flatten()])[1:].view_as(gradient),
}


def assert_right(gradients: list[Tensor | None], coefficients: Tensor, tolerance: float = 1e-5) -> None:
    """Gramian, to the norms, and combination, to half a unit of the result's last place beyond 1e-6."""
    dense = [gradient for gradient in gradients if gradient is not None]
    rows = torch.stack([torch.zeros_like(dense[0]) if gradient is None else gradient for gradient in gradients])
    rows = rows.double().flatten(1)
    gramian = local_gramian(gradients, CPU)
    norms = rows.norm(dim=1)
    assert gramian.dtype == torch.float64
    assert ((gramian - rows @ rows.T).abs() <= tolerance * norms[:, None] * norms).all()
    combined = combine_gradients(gradients, coefficients)
    assert combined is not None
    assert (combined.dtype, combined.shape) == (dense[0].dtype, dense[0].shape)
    expected = coefficients @ rows
    error = (combined.double().flatten() - expected).abs()
    assert (error <= 1e-6 * (coefficients.abs() @ rows.abs()) + HALF_ULP[combined.dtype] * expected.abs()).all()


def randn(num_tasks: int, batch_size: int, dim: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(batch_size)
    # The mean makes products positive, as of gradients that agree: sums grow with N.
    return [(torch.randn(batch_size, dim, generator=generator) + 0.3).to(dtype) for _ in range(num_tasks)]


@pytest.mark.parametrize(("num_tasks", "elements"), [(2, 1 << 20), (3, 1 << 19), (8, 87382), (1, 3 << 20)])
def test_the_more_tasks_the_smaller_gradients_are_fused(num_tasks: int, elements: int) -> None:
    assert is_fused([torch.empty(elements)] * num_tasks)
    assert not is_fused([torch.empty(elements - 1)] * num_tasks)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.sampled_from(
        [
            *((1, LEAST + more) for more in (-1, 0, 1, ROW_ELEMENTS - 1, ROW_ELEMENTS, ROW_ELEMENTS + 1)),
            (1 << 12, 257),
            (1001, 1050),
            (LEAST + 5, 1),
        ]
    ),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    layouts=st.lists(st.sampled_from([None, *LAYOUTS]), min_size=1, max_size=3).filter(any),
    coefficients=st.lists(st.integers(-8, 8).map(lambda number: number / 7), min_size=3, max_size=3),
)
def test_right_in_every_layout(
    shape: tuple[int, int], dtype: torch.dtype, layouts: list[str | None], coefficients: list[float]
) -> None:
    plain = randn(len(layouts), *shape, dtype)
    gradients = [
        None if name is None else LAYOUTS[name](gradient) for name, gradient in zip(layouts, plain, strict=True)
    ]
    # Plain float32 sums of equal products all round in the same direction.
    plain_sums = plain[0].numel() < least_elements(sum(name is not None for name in layouts))
    tolerance = 1e-4 if plain_sums and "expanded" in layouts else 1e-5
    assert_right(gradients, torch.tensor(coefficients[: len(layouts)], dtype=torch.float64), tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_closer_than_rounding_of_float32(dtype: torch.dtype) -> None:
    assert_right([*randn(2, 2048, 1025, dtype)], torch.tensor([0.5, -1.5]).double(), tolerance=2.0**-23)


def test_one_compilation_for_all_batch_sizes() -> None:
    """Of each operation, for M and dtype; none for small gradients, more tasks than are fused, and float64."""
    coefficients = torch.rand(17, dtype=torch.float64)

    def compilations(gradients: list[Tensor]) -> int:
        before = counters["stats"]["unique_graphs"]
        assert_right([*gradients], coefficients[: len(gradients)])
        return counters["stats"]["unique_graphs"] - before

    for dtype in (torch.float32, torch.bfloat16):
        assert compilations(randn(4, 1024, 1024, dtype)) == 2
        assert [compilations(randn(4, rows, 512, dtype)) for rows in (2049, 4096, 2500, 2048)] == [0, 0, 0, 0]
        assert compilations(randn(4, 256, 1024, dtype)) == 0
    assert compilations(randn(2, 1024, 1024, torch.float64)) == 0
    assert compilations(randn(17, 1024, 1024)) == 0


def test_one_loop_reads_every_gradient_once() -> None:
    """One over rows and one over their elements, in which each of 8 gradients is loaded once, for 36 products."""
    gradients = [gradient.flatten() for gradient in randn(8, 1024, 1024)]
    with torch._inductor.config.patch(fx_graph_cache=False), torch._functorch.config.patch(enable_autograd_cache=False):
        _, [code] = run_and_get_code(fused_products, gradients)
    assert code.count("for(int64_t") == 2
    assert code.count("::loadu(") == 8


def test_a_gradient_given_twice() -> None:
    first, second = randn(2, 1024, 1024)
    assert_right([first, second, first], torch.tensor([0.2, 0.3, 0.5]).double())


def test_what_is_not_finite_is_not_hidden() -> None:
    gradients = randn(3, 1024, 1024)
    gradients[1][5, 7] = torch.inf
    assert local_gramian(gradients, CPU).isfinite().tolist() == [[True, False, True], [False] * 3, [True, False, True]]
    combined = combine_gradients(gradients, torch.full((3,), torch.nan, dtype=torch.float64))
    assert combined is not None
    assert combined.isnan().all()


def test_another_thread_and_another_number_of_threads() -> None:
    gradients, coefficients = randn(3, 1024, 1025), torch.tensor([0.2, 0.3, 0.5]).double()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            assert_right([*gradients], coefficients)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert_right([*gradients], coefficients)
    finally:
        torch.set_num_threads(threads)


def test_plain_under_a_dispatch_mode_and_compiled_after_it() -> None:
    """Such a mode sees operators; what it saw must not stop compiling later."""
    gradients, coefficients = randn(5, 1024, 1024), torch.rand(5, dtype=torch.float64)
    with FlopCounterMode(display=False):
        assert not is_fused(gradients)
        assert_right([*gradients], coefficients)
    with torch.compiler.set_stance("force_eager"):
        assert_right([*gradients], coefficients)
    before = counters["stats"]["unique_graphs"]
    assert_right([*gradients], coefficients)
    assert counters["stats"]["unique_graphs"] - before == 2


# torch.compile's own, where it traces an autograd.Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_inside_of_a_compiled_model() -> None:
    """The layer's backward is the same where a model around it is compiled."""
    gradients = randn(3, 1024, 1024)
    found = []
    for wrap in (lambda function: function, torch.compile(backend="eager")):
        layer = BalancingLayer(MultiBalance(3))

        def loss(shared: Tensor, layer: BalancingLayer = layer) -> Tensor:
            return torch.stack([(view * g).sum() for view, g in zip(layer(shared * 2), gradients, strict=True)]).sum()

        shared = torch.ones(1024, 1024, requires_grad=True)
        wrap(loss)(shared).backward()
        assert shared.grad is not None
        found.append(shared.grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("variables", "warnings"),
    [({"CXX": "/nowhere/c++"}, 1), ({"TORCH_COMPILE_DISABLE": "1"}, 0)],
    ids=["no compiler", "disabled"],
)
def test_plain_where_nothing_can_be_compiled(tmp_path: Path, variables: dict[str, str], warnings: int) -> None:
    given = {**environment(), **variables, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    process = run("env", "-i", *(f"{name}={value}" for name, value in given.items()), sys.executable, BALANCE)
    assert process.returncode == 0, process.stderr
    assert process.stdout == "right\nright\nright\n"
    assert process.stderr.count("UserWarning") == warnings
    assert process.stderr.count("gradients are balanced by plain PyTorch") == warnings
