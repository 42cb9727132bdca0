"""Section 4.2 of the paper on exact Jacobians: what is a theorem there, and what its text says but does not hold.

Notation: B rows of a batch, D width of the representation, n shared parameters W, M tasks; J(x) = the Jacobian (D, n)
of a sample's representation by W, g_m(x) = the gradient (D,) of its loss m by its representation, both of one sample.

How equation 8 becomes an identity. With f_m of a batch the *mean* of its rows' losses, as the paper overloads it, the
parameter gradient is the mean of J(x)'g_m(x). E[J] is (D, n), so what it multiplies must have D entries: it is neither
one sample's gradient nor the gradient (B, D) of the batched representation that autograd yields, whose rows are
g_m(x)/B, but that gradient summed over its rows, the batch-pooled gradient: the mean of g_m(x). Then, and only then,

    parameter gradient = E[J]' (pooled gradient) + R_B,    R_B = mean over the batch of (J(x) - E[J])' g_m(x),

which is exact for any batch and any constant matrix in the place of E[J]. The balancing layer's gradient, flattened to
B D entries, obeys a chain rule without residual: its matrix is all rows' Jacobians, one above the other.
"""

import itertools

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from dlrm_mtl.balancing import BalancingLayer, create_balancer, min_norm_point
from tests.balancing.small_model import WIDTH, SmallModel, batch, task_losses

NUM_TASKS = 3
ROWS = 48
"""The distribution: so many rows, equally likely, so that expectations over it are exact."""

quick = settings(deadline=None, max_examples=100, database=None)
entries = st.floats(-10, 10, allow_subnormal=False)


@st.composite
def matrix_pairs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """A (q, n) and B (p, q) of Lemma 4.1; entries repeat and vanish more often than random ones do."""
    p, q, n = (draw(st.integers(1, 6)) for _ in range(3))
    a, b = (draw(arrays.arrays(np.float64, shape, elements=entries)) for shape in ((q, n), (p, q)))
    return torch.from_numpy(a), torch.from_numpy(b)


def extreme_singular_values(matrix: Tensor) -> tuple[float, float]:
    """mu and ell, the square roots of the extreme eigenvalues of B'B."""
    values = torch.linalg.svdvals(matrix)
    return (values[-1].item() if matrix.shape[0] >= matrix.shape[1] else 0.0), values[0].item()


def chain(a: Tensor, b: Tensor) -> list[float]:
    """The five members of Lemma 4.1, in its order."""
    mu, ell = extreme_singular_values(b)
    of_a, of_ba = min_norm_point(a.T @ a), min_norm_point((b @ a).T @ (b @ a))
    norms = [(a @ of_a).norm(), (a @ of_ba).norm(), (b @ a @ of_ba).norm(), (b @ a @ of_a).norm(), (a @ of_a).norm()]
    return [factor**2 * float(norm) ** 2 for factor, norm in zip([mu, mu, 1, 1, ell], norms, strict=True)]


def assert_ascending(members: list[float], scale: float) -> None:
    """Up to rounding, relative to the largest that a member could be."""
    for lower, upper in itertools.pairwise(members):
        assert lower <= upper + 1e-9 * scale, members


def largest_member(a: Tensor, b: Tensor) -> float:
    return extreme_singular_values(b)[1] ** 2 * float(a.square().sum(dim=0).max())


@quick
@given(matrix_pairs())
def test_lemma_4_1(pair: tuple[Tensor, Tensor]) -> None:
    assert_ascending(chain(*pair), largest_member(*pair))


@quick
@given(matrix_pairs(), st.floats(0.1, 10), st.integers(0, 1000))
def test_lemma_4_1_with_equal_singular_values_is_an_equality(pair: tuple[Tensor, Tensor], mu: float, seed: int) -> None:
    a, _ = pair
    square = torch.randn(len(a) + 2, len(a), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    b = mu * torch.linalg.qr(square).Q
    members = chain(a, b)
    assert members == pytest.approx([members[0]] * 5, rel=1e-6, abs=1e-9 * largest_member(a, b))


def test_lemma_4_1_says_nothing_where_the_jacobian_has_a_kernel() -> None:
    """mu = 0: the surrogate's weights may leave any multiple of what the best weights leave."""
    a = torch.tensor([[1.0, 3.0], [10.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 0.0]], dtype=torch.float64)  # sees the first coordinate alone
    of_a, of_ba = min_norm_point(a.T @ a), min_norm_point((b @ a).T @ (b @ a))
    assert (of_ba - torch.tensor([1.0, 0.0])).abs().max() < 1e-6
    assert of_a[1] > 0.9
    assert (b @ a @ of_a).norm() > 2.8 * (b @ a @ of_ba).norm()


class Exact:
    """The small model at some rows, with every Jacobian in full."""

    def __init__(self, rows: Tensor) -> None:
        self.model = SmallModel(NUM_TASKS, None)
        self.features, self.labels = (part[rows] for part in batch(0, ROWS, NUM_TASKS))
        self.parameters = list(self.model.bottom.parameters())

    def jacobians(self) -> Tensor:
        """J(x) of every row, (B, D, n)."""
        bottom = self.model.bottom
        weights = {name: value.detach() for name, value in bottom.named_parameters()}

        def represent(weights: dict[str, Tensor], row: Tensor) -> Tensor:
            return functional_call(bottom, weights, (row[None],))[0]

        parts = vmap(jacrev(represent), in_dims=(None, 0))(weights, self.features)
        return torch.cat([parts[name].flatten(2) for name in weights], dim=2)

    def representation_gradients(self) -> Tensor:
        """g_m(x) of every row and task, (M, B, D): autograd's gradients of each row's own losses."""
        with torch.no_grad():
            shared = self.model.bottom(self.features)
        shared.requires_grad_()
        logits = [head(shared).squeeze(1) for head in self.model.heads]
        losses = task_losses(logits, self.labels)
        rows = len(self.features)  # of mean losses: every row's share is 1/B of its own gradient
        return torch.stack([torch.autograd.grad(loss, shared, retain_graph=True)[0] * rows for loss in losses])

    def parameter_gradients(self) -> Tensor:
        """Of the batch's mean losses, (M, n): one backward pass each."""
        losses = task_losses(self.model(self.features), self.labels)
        grads = [torch.autograd.grad(loss, self.parameters, retain_graph=True) for loss in losses]
        return torch.stack([torch.cat([part.flatten() for part in parts]) for parts in grads])


def residuals(jacobians: Tensor, mean_jacobian: Tensor, gradients: Tensor) -> Tensor:
    """R_B of equation 9 for each task alone, (M, n), from its definition."""
    return torch.einsum("bdn,mbd->mn", jacobians - mean_jacobian, gradients) / len(jacobians)


EVERY_ROW = torch.arange(ROWS)


@pytest.fixture(scope="module")
def mean_jacobian() -> Tensor:
    """E[J], (D, n), over the distribution."""
    return Exact(EVERY_ROW).jacobians().mean(dim=0)


def random_weights(seed: int) -> Tensor:
    raw = -torch.rand(NUM_TASKS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log()
    return raw / raw.sum()


BATCHES = [EVERY_ROW[:1], EVERY_ROW[5:7], EVERY_ROW[:16], EVERY_ROW[16:], EVERY_ROW, torch.tensor([3, 3, 3, 40])]


@pytest.mark.parametrize("rows", BATCHES, ids=len)
def test_equation_8_is_an_identity_of_pooled_gradients(rows: Tensor, mean_jacobian: Tensor) -> None:
    exact = Exact(rows)
    gradients = exact.representation_gradients()
    residual = residuals(exact.jacobians(), mean_jacobian, gradients)
    pooled = gradients.mean(dim=1)  # (M, D)
    expected = exact.parameter_gradients()
    torch.testing.assert_close(pooled @ mean_jacobian + residual, expected, rtol=1e-10, atol=1e-13)
    # Summed per-sample gradients are another reading of the paper's text; it holds for one row alone.
    summed = gradients.sum(dim=1) @ mean_jacobian + residual
    assert torch.allclose(summed, expected, rtol=1e-3) == (len(rows) == 1)


@pytest.mark.parametrize("rows", BATCHES, ids=len)
def test_flattened_gradients_obey_the_chain_rule_without_residual(rows: Tensor) -> None:
    """The layer's gradients: what autograd yields at the batched representation, rows g_m(x)/B."""
    exact = Exact(rows)
    stacked = exact.jacobians().flatten(0, 1)  # (B D, n)
    flattened = exact.representation_gradients().flatten(1) / len(rows)  # (M, B D)
    torch.testing.assert_close(flattened @ stacked, exact.parameter_gradients(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("rows", BATCHES, ids=len)
def test_theorem_1(rows: Tensor, mean_jacobian: Tensor) -> None:
    """|parameter gradient| <= ell epsilon + delta, for any weights and for those that equation 11 asks for."""
    exact = Exact(rows)
    gradients, parameters = exact.representation_gradients(), exact.parameter_gradients()
    residual, pooled = residuals(exact.jacobians(), mean_jacobian, gradients), gradients.mean(dim=1)
    ell = torch.linalg.matrix_norm(mean_jacobian, 2)
    for weights in [*map(random_weights, range(20)), min_norm_point(pooled @ pooled.T)]:
        epsilon, delta = (weights @ pooled).norm(), (weights @ residual).norm()
        assert (weights @ parameters).norm() <= (ell * epsilon + delta) * (1 + 1e-12)


@pytest.mark.parametrize("rows", BATCHES, ids=len)
def test_theorem_1_for_the_layers_flattened_gradients(rows: Tensor) -> None:
    """No residual: |parameter gradient| <= sqrt(largest eigenvalue of mean J'J) * rms of the rows' |g(x) lambda|."""
    exact = Exact(rows)
    gradients, parameters, jacobians = exact.representation_gradients(), exact.parameter_gradients(), exact.jacobians()
    second_moment = torch.einsum("bdn,bdk->nk", jacobians, jacobians) / len(rows)
    ell = torch.linalg.eigvalsh(second_moment)[-1].sqrt()
    flattened = gradients.flatten(1)
    for weights in [*map(random_weights, range(20)), min_norm_point(flattened @ flattened.T)]:
        epsilon = (weights @ flattened).norm() / len(rows) ** 0.5
        assert (weights @ parameters).norm() <= ell * epsilon * (1 + 1e-12)


@pytest.mark.parametrize("rows", BATCHES, ids=len)
@pytest.mark.parametrize("flattened", [False, True], ids=["pooled", "flattened"])
def test_lemma_4_1_on_the_model(rows: Tensor, flattened: bool, mean_jacobian: Tensor) -> None:
    """A the representation gradients; B the mean Jacobian (equations 10 and 11), or that of every row."""
    exact = Exact(rows)
    gradients = exact.representation_gradients()
    if flattened:
        a, b = gradients.flatten(1).T / len(rows), exact.jacobians().flatten(0, 1).T
    else:
        a, b = gradients.mean(dim=1).T, mean_jacobian.T
    assert_ascending(chain(a, b), largest_member(a, b))


def test_the_layers_direction_obeys_the_bound() -> None:
    """The whole path: balancing layer, min-norm weights, one backward pass."""
    exact = Exact(EVERY_ROW)
    layer = BalancingLayer(create_balancer("mgda", NUM_TASKS))
    model = SmallModel(NUM_TASKS, layer)
    torch.stack(task_losses(model(exact.features), exact.labels)).sum().backward()
    parameters = torch.cat([value.grad.flatten() for value in model.bottom.parameters() if value.grad is not None])
    assert layer.record is not None
    weights, gramian = layer.record.coefficients, layer.record.gramian
    torch.testing.assert_close(parameters, weights @ exact.parameter_gradients(), rtol=1e-9, atol=1e-13)
    epsilon = (weights @ gramian @ weights).sqrt()
    ell = torch.linalg.matrix_norm(exact.jacobians().flatten(0, 1), 2)
    assert parameters.norm() <= ell * epsilon * (1 + 1e-12)


def one_weight(features: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Phi(w; x) = w x with loss slope(x) Phi: (J, g) of every row, (B, 1, 1) and (1, B, 1)."""
    weight = nn.Parameter(torch.ones((), dtype=torch.float64))
    return vmap(jacrev(lambda w, x: w * x), in_dims=(None, 0))(weight, features)[:, None, None], slope[None, :, None]


def test_both_terms_of_theorem_1_are_needed() -> None:
    """Each of them alone is less than the parameter gradient, somewhere."""
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    for features, slope, term in [(sign, sign, "residual"), (torch.ones_like(sign), sign.abs(), "mean")]:
        jacobians, gradients = one_weight(features, slope)
        mean = jacobians.mean(dim=0)
        parameter = torch.einsum("bdn,mbd->mn", jacobians, gradients) / len(features)
        terms = {
            "residual": residuals(jacobians, mean, gradients).norm(),
            "mean": torch.linalg.matrix_norm(mean, 2) * gradients.mean(dim=1).norm(),
        }
        assert terms.pop(term) == parameter.norm() > 0
        assert [other.item() for other in terms.values()] == [0]


@pytest.mark.parametrize("copies", [1, 10, 1000])
def test_the_residual_need_not_vanish_with_the_batch_size(copies: int) -> None:
    """Against the paper's text under equation 9: its mean is Cov(J, g), which no batch size changes. Here x = +1 and -1
    with loss x Phi: E[J] = 0, so that R_B is the whole gradient of any balanced batch."""
    features = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(copies)
    jacobians, gradients = one_weight(features, features)
    residual = residuals(jacobians, jacobians.mean(dim=0), gradients)
    assert residual.item() == pytest.approx(1)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_residual_concentrates_at_the_covariance(rows: int) -> None:
    """What does hold: over all batches drawn from the distribution, R_B has the mean Cov(J, g), exactly, and its mean
    squared distance from there is that of one row, divided by B."""
    exact = Exact(EVERY_ROW[:6])
    jacobians, gradients = exact.jacobians(), exact.representation_gradients()
    mean = jacobians.mean(dim=0)
    covariance = torch.einsum("bdn,mbd->mn", jacobians - mean, gradients - gradients.mean(dim=1, keepdim=True)) / 6
    one_row = torch.einsum("bdn,mbd->bmn", jacobians - mean, gradients)  # r_m(x) of equation 9
    spread = (one_row - covariance).square().sum(dim=(1, 2)).mean()
    batches = [torch.tensor(drawn) for drawn in itertools.product(range(6), repeat=rows)]
    actual = torch.stack([residuals(jacobians[drawn], mean, gradients[:, drawn]) for drawn in batches])
    torch.testing.assert_close(actual.mean(dim=0), covariance, rtol=1e-9, atol=1e-13)
    distance = (actual - covariance).square().sum(dim=(1, 2)).mean()
    torch.testing.assert_close(distance, spread / rows, rtol=1e-9, atol=0.0)
    assert covariance.norm() > 0.01 * one_row.norm(dim=(1, 2)).mean()


def test_the_jacobians_are_those_of_the_whole_bottom() -> None:
    exact = Exact(EVERY_ROW[:2])
    assert exact.jacobians().shape == (2, WIDTH, sum(value.numel() for value in exact.parameters))
