"""Real gloo ranks under DDP, each with its rows and local mean losses, against one process with the whole batch."""

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dlrm_mtl.balancing import Balancer, BalancingLayer, ParameterLevelLayer, create_balancer
from dlrm_mtl.balancing.exchange.direct_exchange import DirectExchange
from dlrm_mtl.balancing.layer import Reduction
from dlrm_mtl.distributed.processes import Ranks
from tests.balancing.methods.test_invariants import BY_COEFFICIENTS, Method, method_id
from tests.balancing.resuming import REDUCTIONS
from tests.balancing.small_model import SmallModel, batch, task_losses
from tests.ranks import RankPool

GLOBAL_ROWS = 12
TASKS = 3
STEPS = 6
BAD_STEP = 3
MULTIBALANCE = {"beta": 0.5, "gamma": 0.3}


@dataclass(frozen=True)
class Run:
    """One training run, the same on any number of ranks."""

    method: str = "multibalance"
    options: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float64
    reduction: Reduction = "exact"
    trouble: Literal["none", "positives on one rank", "absent task", "nan on one rank", "shares without rows"] = "none"
    subgroup: bool = False
    observed: bool = False
    level: bool = False
    """Whether the gradients of the bottom's parameters decide."""


@dataclass
class Trace:
    """Values of one rank."""

    weights: Tensor
    """(STEPS, M) task weights after each step."""
    coefficients: Tensor
    """(STEPS, M)"""
    gramians: Tensor
    """(STEPS, M, M)"""
    state: list[dict[str, Tensor]]
    """State of the layer after each step."""
    parameters: dict[str, Tensor]
    """At the end."""
    all_reduces: int
    """Sums over ranks that Python code started."""
    probe: Tensor
    """GradDrop's draws for the same three gradients on every rank."""


class InverseLosses(Balancer):
    """A method outside this package that uses only the losses: w_m ~ 1 / f_m."""

    measures = "nothing"
    needs_losses = True

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        assert losses is not None
        return 1 / losses, {}


LOSS_BASED: list[Method] = [
    ("own", {}),
    ("mgda", {"normalization": "loss"}),
    ("db_mtl", {"log_losses": True}),
    ("db_mtl", {"log_losses": True, "average": 0.5}),
]

RUNS = {
    "float64": Run(options=MULTIBALANCE),
    "float32": Run(options=MULTIBALANCE, dtype=torch.float32),
    "mean": Run(method="mean"),
    "mean, observed": Run(method="mean", observed=True),
    "positives on one rank": Run(options=MULTIBALANCE, trouble="positives on one rank"),
    "absent task": Run(options=MULTIBALANCE, trouble="absent task"),
    "nan on one rank": Run(options=MULTIBALANCE, trouble="nan on one rank"),
    "delayed": Run(options=MULTIBALANCE, reduction="delayed"),
    "delayed, nan on one rank": Run(options=MULTIBALANCE, reduction="delayed", trouble="nan on one rank"),
    "local": Run(options=MULTIBALANCE, reduction="local"),
    **{
        f"{name}, {reduction}": Run("imtl_g", options, reduction=reduction, observed=name == "reused, observed")
        for name, options in (("mixed", {"mix": 0.5}), ("reused", {"every": 2}), ("reused, observed", {"every": 2}))
        for reduction in REDUCTIONS
    },
    "subgroup": Run(options=MULTIBALANCE, subgroup=True),
    **{f"{method_id(method)}, float64": Run(*method) for method in BY_COEFFICIENTS},
    **{f"{method_id(method)}, float32": Run(*method, dtype=torch.float32) for method in BY_COEFFICIENTS[:9]},
    "graddrop": Run("graddrop"),
    "own losses": Run("own"),
    "own losses, observed": Run("own", observed=True),
    "own losses, delayed": Run("own", reduction="delayed"),
    "own losses, local": Run("own", reduction="local"),
    "own losses, nan on one rank": Run("own", trouble="nan on one rank"),
    **{f"{method_id(method)}, without rows": Run(*method, trouble="shares without rows") for method in LOSS_BASED},
    "without rows": Run(options=MULTIBALANCE, trouble="shares without rows"),
    "without rows, delayed": Run(options=MULTIBALANCE, reduction="delayed", trouble="shares without rows"),
    "without rows, float32": Run(options=MULTIBALANCE, dtype=torch.float32, trouble="shares without rows"),
    "mean, without rows": Run("mean", dtype=torch.float32, trouble="shares without rows"),
    "at the level of parameters": Run("mgda", {"normalization": "loss"}, level=True),
}

EMPTY_STEP = 2
"""A step in which no rank has a row of the last task."""


def train(run: Run, rank: int = 0, world_size: int = 1, group: dist.ProcessGroup | None = None) -> Trace:
    """STEPS steps of SGD on this rank's slice of each global batch; a step with non-finite gradients is skipped."""
    balancer = InverseLosses(TASKS) if run.method == "own" else create_balancer(run.method, TASKS, **run.options)
    layer: BalancingLayer | ParameterLevelLayer = BalancingLayer(balancer, group, run.reduction)
    if run.level:
        layer = ParameterLevelLayer(balancer, group)
    absent = [1] if run.trouble == "absent task" else []
    model: nn.Module = SmallModel(TASKS, layer, run.dtype, absent)
    if isinstance(layer, ParameterLevelLayer):
        layer.bind(list(model.bottom.parameters()))  # type: ignore[union-attr, operator]
    if world_size > 1:
        # Without the broadcast of buffers: every rank has to arrive at the same state by itself.
        model = DistributedDataParallel(
            model, process_group=group, broadcast_buffers=False, find_unused_parameters=bool(absent)
        )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mine = slice(rank * GLOBAL_ROWS // world_size, (rank + 1) * GLOBAL_ROWS // world_size)
    weights, coefficients, gramians, states = [], [], [], []
    for step in range(STEPS):
        features, labels = batch(step, GLOBAL_ROWS, TASKS, run.dtype)
        masks = torch.ones_like(labels)
        if run.trouble == "positives on one rank":
            masks[1:, 2] = 0
        if run.trouble == "nan on one rank" and step == BAD_STEP:
            masks[0, 1] = float("nan")
        if run.trouble == "shares without rows":
            masks[: GLOBAL_ROWS if step == EMPTY_STEP else GLOBAL_ROWS // 2, 2] = 0
        kept = [m for m in range(TASKS) if m not in absent]
        if run.observed:
            layer.observe()
        logits = model(features[mine])
        optimizer.zero_grad()
        of_tasks = task_losses(logits, labels[mine][:, kept], masks[mine][:, kept])
        if run.trouble == "shares without rows" and not masks[mine, 2].any():
            of_tasks[2] = logits[2][[]].mean()  # NaN, with a gradient of zero
        losses = torch.stack(of_tasks)
        if not absent:
            layer.weigh_losses(losses)
        losses.sum().backward()
        if all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters()):
            optimizer.step()
        assert layer.record is not None
        weights.append(layer.record.task_weights)
        coefficients.append(layer.record.coefficients)
        gramians.append(layer.record.gramian)
        states.append({key: value.clone() for key, value in layer.state_dict().items()})
    parameters = {name.removeprefix("module."): value.detach() for name, value in model.named_parameters()}
    probe = create_balancer("graddrop", TASKS).combine(torch.eye(TASKS).repeat(1, 50) - 0.5)
    return Trace(torch.stack(weights), torch.stack(coefficients), torch.stack(gramians), states, parameters, 0, probe)


def train_counting(run: Run, rank: int, world_size: int, group: dist.ProcessGroup | None) -> Trace:
    """As `train`, and counts the sums over ranks, in shared memory or by the process group."""
    calls: list[Any] = []

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def counted(*args: Any, **kwargs: Any) -> Any:
            calls.extend(value for value in args if isinstance(value, list) or _is_of_floats(value))
            return original(*args, **kwargs)

        return counted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "all_reduce", counting(dist.all_reduce))
        patch.setattr(DirectExchange, "start", counting(DirectExchange.start))
        trace = train(run, rank, world_size, group)
    return replace(trace, all_reduces=len(calls))


def _is_of_floats(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def train_all(ranks: Ranks) -> bytes:
    """The trace of every run on this rank, saved: results of the pool are plain data."""
    rank, world_size = ranks.rank, ranks.world_size
    # The last rank trains alone on everything, the others share the batch.
    several, alone = (dist.new_group(members) for members in (list(range(world_size - 1)), [world_size - 1]))
    subgroup = (0, 1, alone) if rank == world_size - 1 else (rank, world_size - 1, several)
    whole = (rank, world_size, None)
    traces = {name: train_counting(run, *(subgroup if run.subgroup else whole)) for name, run in RUNS.items()}
    saved = io.BytesIO()
    torch.save(traces, saved)
    return saved.getvalue()


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request: pytest.FixtureRequest, rank_pool: RankPool) -> list[dict[str, Trace]]:
    """Per rank, the trace of every run."""
    saved = rank_pool.run(request.param, train_all)
    return [torch.load(io.BytesIO(of_rank), weights_only=False) for of_rank in saved]


@functools.cache
def alone(name: str) -> Trace:
    return train(RUNS[name])


def assert_equal_states(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    # What is in flight of a step that is not finite is not either.
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)


GLOBAL = [
    name for name, run in RUNS.items() if run.reduction != "local" and not run.subgroup and run.method != "graddrop"
]


@pytest.mark.parametrize("name", GLOBAL)
def test_ranks_are_bit_identical(ranks: list[dict[str, Trace]], name: str) -> None:
    first = ranks[0][name]
    for other in (traces[name] for traces in ranks[1:]):
        assert torch.equal(first.weights, other.weights)
        torch.testing.assert_close(first.coefficients, other.coefficients, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(first.gramians, other.gramians, rtol=0, atol=0, equal_nan=True)
        for one, two in zip(first.state, other.state, strict=True):
            assert_equal_states(one, two)
        for parameter, value in first.parameters.items():
            assert torch.equal(value, other.parameters[parameter]), parameter


@pytest.mark.parametrize("name", GLOBAL)
def test_ranks_equal_one_process_with_the_whole_batch(ranks: list[dict[str, Trace]], name: str) -> None:
    assert_same_run(ranks[0][name], alone(name), 1e-6 if RUNS[name].dtype == torch.float32 else 1e-12)


def assert_same_run(actual: Trace, expected: Trace, tolerance: float) -> None:
    close = functools.partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance, equal_nan=True)
    close(actual.weights, expected.weights)
    close(actual.coefficients, expected.coefficients)
    close(actual.gramians, expected.gramians)
    for one, two in zip(actual.state, expected.state, strict=True):
        for key in one:
            close(one[key], two[key])
    for parameter, value in expected.parameters.items():
        close(actual.parameters[parameter], value)


def test_the_runs_are_not_trivial() -> None:
    """Weights leave the prior, differ between steps, and parameters depend on the method."""
    balanced, mean = alone("float64"), alone("mean")
    assert (balanced.weights.diff(dim=0).abs().amax(dim=1) > 1e-3).all()
    assert (balanced.coefficients - balanced.weights).abs().max() > 1e-2
    assert (balanced.parameters["bottom.0.weight"] - mean.parameters["bottom.0.weight"]).abs().max() > 1e-3


@pytest.mark.parametrize("method", [method for method in BY_COEFFICIENTS if method != ("dwa", {})], ids=method_id)
def test_the_methods_are_not_trivial(method: Method) -> None:
    """Coefficients differ from the mean's and between steps."""
    coefficients = alone(f"{method_id(method)}, float64").coefficients
    assert ((coefficients - 1 / TASKS).abs().amax(dim=1) > 1e-6).any()
    assert (coefficients.diff(dim=0).abs().amax(dim=1) > 1e-6).any()


def test_graddrop_reduces_nothing_and_draws_on_each_rank(ranks: list[dict[str, Trace]]) -> None:
    """The balanced gradient of a rank is a function of its own rows and of its own draws."""
    first, second = (traces["graddrop"] for traces in ranks[:2])
    assert first.all_reduces == second.all_reduces == 0
    for parameter, value in first.parameters.items():
        assert torch.equal(value, second.parameters[parameter])  # DDP averages what is below the layer
    rows = torch.randn(TASKS, 50, generator=torch.Generator().manual_seed(0))
    drawn = [create_balancer("graddrop", TASKS).combine(rows) for _ in range(2)]
    assert torch.equal(*drawn)
    assert not torch.equal(ranks[0]["graddrop"].probe, ranks[1]["graddrop"].probe)


def test_one_all_reduce_per_step(ranks: list[dict[str, Trace]]) -> None:
    for traces in ranks:
        counts = {name: trace.all_reduces for name, trace in traces.items()}
        assert counts["float64"] == counts["absent task"] == counts["nan on one rank"] == counts["delayed"] == STEPS
        assert counts["mean, observed"] == STEPS
        assert counts["mean"] == counts["local"] == 0
        assert counts["reused, exact"] == counts["reused, delayed"] == STEPS // 2
        assert counts["reused, observed, exact"] == counts["reused, observed, delayed"] == STEPS


def test_absent_and_masked_tasks_stay_finite() -> None:
    for name in ("absent task", "positives on one rank"):
        trace = alone(name)
        assert trace.coefficients.isfinite().all()
        assert all(value.isfinite().all() for value in trace.parameters.values())
    assert (alone("absent task").coefficients[:, 1] == 0).all()


def test_nan_on_one_rank_leaves_every_state_untouched(ranks: list[dict[str, Trace]]) -> None:
    for traces in ranks:
        before, after = (dict(traces["nan on one rank"].state[step]) for step in (BAD_STEP - 1, BAD_STEP))
        assert before.pop("balancer.nonfinite_steps").item() == 0
        assert after.pop("balancer.nonfinite_steps").item() == 1
        assert_equal_states(before, after)
        assert traces["nan on one rank"].state[-1]["balancer.step"].item() == STEPS - 1
        assert all(value.isfinite().all() for value in traces["nan on one rank"].parameters.values())


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if run.trouble == "shares without rows"])
def test_tasks_without_rows_do_no_harm(ranks: list[dict[str, Trace]], name: str) -> None:
    """On some ranks, and in one step on all. No step is skipped."""
    for traces in ranks:
        trace = traces[name]
        counted = STEPS - (RUNS[name].reduction == "delayed")  # the last one is under way
        assert trace.state[-1]["balancer.step"].item() == counted
        assert trace.state[-1]["balancer.nonfinite_steps"].item() == 0
        assert trace.coefficients.isfinite().all()
        assert (trace.coefficients[:, :2] != 0).any(dim=1).all()
        assert all(value.isfinite().all() for value in trace.parameters.values())


def test_an_own_method_gets_the_losses_of_the_global_batch(ranks: list[dict[str, Trace]]) -> None:
    own = alone("own losses").coefficients
    assert own.diff(dim=0).abs().amax(dim=1).min() > 1e-3
    for traces in ranks:
        torch.testing.assert_close(traces["own losses"].coefficients, own, rtol=1e-12, atol=0)
        # A step later; parameters are the same until the first differs.
        torch.testing.assert_close(traces["own losses, delayed"].coefficients[1], own[0], rtol=1e-12, atol=0)
        assert traces["own losses, local"].all_reduces == 0
        assert traces["own losses"].all_reduces == traces["own losses, delayed"].all_reduces == STEPS
    first, second = (traces["own losses, local"].coefficients for traces in ranks[:2])
    assert (first - second).abs().min() > 1e-4


def test_delayed_applies_the_weights_of_the_step_before(ranks: list[dict[str, Trace]]) -> None:
    """The coefficients that a step applies follow from the Gramian that it reports."""
    for traces in ranks:
        trace, replay = traces["delayed"], create_balancer("multibalance", TASKS, beta=0.5, gamma=0.3)
        torch.testing.assert_close(trace.coefficients[0], torch.full((TASKS,), 1 / TASKS, dtype=torch.float64))
        # The first steps start from the same parameters, so that step 1 reports the Gramian that "exact" saw in step 0.
        torch.testing.assert_close(trace.gramians[1], traces["float64"].gramians[0], rtol=1e-12, atol=0)
        for step in range(1, STEPS):
            torch.testing.assert_close(trace.coefficients[step], replay.update(trace.gramians[step]), rtol=0, atol=0)


def test_local_weighs_by_the_ranks_own_rows(ranks: list[dict[str, Trace]]) -> None:
    first, second = (traces["local"] for traces in ranks[:2])
    assert (first.weights - second.weights).abs().max() > 1e-3
    for parameter, value in first.parameters.items():
        assert torch.equal(value, second.parameters[parameter])
    replay = create_balancer("multibalance", TASKS, beta=0.5, gamma=0.3)
    for step in range(STEPS):
        torch.testing.assert_close(second.coefficients[step], replay.update(second.gramians[step]), rtol=0, atol=0)


def test_subgroups_balance_by_themselves(ranks: list[dict[str, Trace]]) -> None:
    for traces in ranks:
        assert_same_run(traces["subgroup"], alone("subgroup"), 1e-12)
    assert ranks[-1]["subgroup"].all_reduces == 0
    assert ranks[0]["subgroup"].all_reduces == (STEPS if len(ranks) > 2 else 0)
