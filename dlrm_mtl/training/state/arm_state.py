"""The state of an arm as named tensors: weights, optimizer state, balancer state."""

from collections.abc import Collection, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor.api import ShardedTensor

from dlrm_mtl.balancing import BalancingLayer
from dlrm_mtl.data.new_ids import Ids
from dlrm_mtl.distributed.checkpoint import Checkpoint, load_tensors
from dlrm_mtl.distributed.plan_records import describe_plan
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.module_names import OWNED_BY, belongs_to, module_of, unescape
from dlrm_mtl.training.arm import Arm
from dlrm_mtl.training.state.new_rows import NewRows

BALANCING = "dense_part.balancing."
"""The part of the model whose state grows in the first step and is keyed by task."""

OF_TASKS = ("dense_part.heads.", "dense_part.sharing.", "dense_part.own.", OWNED_BY)
"""The parts of the model that may have a module or a table per task."""

SCHEDULE = "__warmup"
"""The parameter under which torchrec keeps the position of a learning-rate schedule."""

State = dict[str, Tensor | ShardedTensor]


def arm_state(arm: Arm, prefix: str, rank: int) -> State:
    """The state of an arm, on this rank; all names begin with ``prefix``, ``/`` or ``rank-R/``. Collective, since the
    balancing layer may have a reduction in flight.

    Names are ``model/PARAMETER`` and ``optimizer/PARAMETER/NAME``. State that differs between ranks (the balancer's
    under ``reduction="local"``) has its rank in front.
    """
    state = {_model_name(arm, prefix, name, rank): value for name, value in arm.model.state_dict().items()}
    for parameter, values in arm.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            state[_optimizer_name(prefix, parameter, name)] = value
    return state


def restore_arm(arm: Arm, prefix: str, checkpoint: Checkpoint, ranks: Ranks) -> None:
    """Loads the state of an untrained arm from a checkpoint, on any ranks and plan. Collective.

    Raises:
        ValueError: on every rank, before training: a part of the state is missing, unknown, or not of the size that
            the arm has under its plan.
    """
    _restore(arm, prefix, checkpoint, ranks)


def start_arm(
    arm: Arm,
    prefix: str,
    checkpoint: Checkpoint,
    ranks: Ranks,
    tasks: Collection[str],
    keep_balancer: bool,
    keep_schedules: bool = False,
    new_ids: Mapping[str, Ids] = MappingProxyType({}),
) -> list[str]:
    """Loads the state of an untrained arm from a checkpoint of a run with other tasks and tables. Collective.

    Shared parts and parts of tasks with the same name keep weights and optimizer state; heads of new tasks keep their
    initial weights.

    Args:
        tasks: of the arm.
        keep_balancer: whether to load the balancer's state too; that of new tasks keeps its initial value.
        keep_schedules: whether schedules of learning rates go on, or start again.
        new_ids: by table, the rows that keep their initial weights and get new optimizer state, see :class:`NewRows`.

    Returns:
        the modules and tables that keep their initial weights.

    Raises:
        ValueError: as :func:`restore_arm`, except for new and removed tasks.
    """
    before = checkpoint.facts["tasks"]
    new_tasks = [task for task in tasks if task not in before]
    names = _restore(
        arm,
        prefix,
        checkpoint,
        ranks,
        skip=(*(() if keep_schedules else (f".{SCHEDULE}/",)), *(() if keep_balancer else (BALANCING,))),
        new_tasks=new_tasks,
        gone_tasks=[task for task in before if task not in tasks],
        new_rows=NewRows(checkpoint.sizes, new_ids),
    )
    parameters = (name.partition("/model/")[2] for name in names if name not in checkpoint.sizes)
    return sorted({module_of(each, new_tasks) for each in parameters if each and BALANCING not in each})


def generator_state(ranks: Ranks) -> dict[str, Tensor]:
    """States of this rank's random number generators."""
    state = {f"rank-{ranks.rank}/generator/cpu": torch.get_rng_state()}
    if ranks.device.type == "cuda":
        state[f"rank-{ranks.rank}/generator/cuda"] = torch.cuda.get_rng_state(ranks.device)
    return state


def restore_generators(checkpoint: Checkpoint, ranks: Ranks) -> None:
    """Sets this rank's generators to their states in a checkpoint, if it had this rank. Collective."""
    own = generator_state(ranks)
    for name, state in load_tensors(checkpoint, {}, [name for name in own if name in checkpoint.sizes], ranks).items():
        if (state.dtype, state.size()) != (own[name].dtype, own[name].size()):
            raise ValueError(f"{checkpoint.path}: {name} is no state of a random number generator")
        if name.endswith("/cuda"):
            torch.cuda.set_rng_state(state, ranks.device)
        else:
            torch.set_rng_state(state)


@torch.no_grad()
def _restore(
    arm: Arm,
    prefix: str,
    checkpoint: Checkpoint,
    ranks: Ranks,
    skip: Collection[str] = (),
    new_tasks: Collection[str] = (),
    gone_tasks: Collection[str] = (),
    new_rows: NewRows | None = None,
) -> set[str]:
    """Reads the parts of the arm's state that a checkpoint has; the rest is unchanged.

    Args:
        skip: parts of names that are not read.
        new_tasks: tasks whose heads the checkpoint need not have.
        gone_tasks: tasks whose heads it may have in addition.
        new_rows: rows of tables that are not read; by default none.

    Returns:
        the names of the state of all ranks, as far as it was wanted.
    """
    # Where there are more ranks than the checkpoint had, some share a predecessor.
    rank = ranks.rank % int(checkpoint.facts["world_size"])
    owners = (f"{prefix}/", f"rank-{rank}/{prefix}/")
    kinds = tuple(f"{owner}{kind}/" for owner in owners for kind in ("model", "optimizer"))

    def wanted(name: str) -> bool:
        return name.startswith(kinds) and not any(part in name for part in skip)

    initial = {name: value.clone() for name, value in arm.model.state_dict().items() if not _is_sharded(value)}
    _create_optimizer_state(arm)
    state = arm_state(arm, prefix, rank)
    for name, value in initial.items():
        state[_model_name(arm, prefix, name, rank)] = value
    ours = {name: value for name, value in state.items() if wanted(name)}
    saved = [name for name in checkpoint.sizes if wanted(name)]
    known = {name for names in ranks.gather(list(ours)) for name in names}
    new_rows = new_rows or NewRows(checkpoint.sizes)
    ranks.run_on_all(lambda: _check(arm, checkpoint, ours, saved, known, new_tasks, gone_tasks, new_rows))

    sharded = {name: value for name, value in ours.items() if name in checkpoint.sizes and _is_sharded(value)}
    grown = {name: rows for name in sharded if (rows := new_rows.grown(name))}
    fresh = {name: new_rows.fresh(name, value) for name, value in ours.items()}
    # The balancing layer may take more than it shows before its first step.
    whole = [name for name in saved if name not in sharded and (name in ours or BALANCING in name)]
    for name, value in load_tensors(checkpoint, sharded, whole, ranks, grown).items():
        if fresh.get(name):
            state[name][: len(value)] = value
        else:
            state[name] = value
    for part, index, values in chain.from_iterable(fresh.values()):
        part[index] = values
    arm.model.load_state_dict({name.partition("/model/")[2]: state[name] for name in state if "/model/" in name})
    optimizer = arm.optimizer.state_dict()["state"]
    arm.optimizer.load_state_dict(
        {
            "state": {
                parameter: {name: state[_optimizer_name(prefix, parameter, name)] for name in values}
                for parameter, values in optimizer.items()
            }
        }
    )
    return known


def _create_optimizer_state(arm: Arm) -> None:
    """Creates the state that optimizers create in their first step, as it is before that step. Without it, loading
    would silently leave that state out."""
    for name, optimizer in arm.optimizer.optimizers:
        fused = name == "tables" and not arm.replicated
        if fused:
            optimizer.step()  # which updates nothing, but creates the state of the schedule
        else:
            optimizer.init_state()  # by a step without gradients, which Adam would count for parameters of new tasks
        optimizer.zero_grad(set_to_none=True)
        for parameter, values in optimizer.state.items():
            of_schedule = "warmup" in values and not parameter.numel()
            for key, value in values.items():
                if not fused or (of_schedule and key == "warmup"):
                    value.zero_()
    arm.optimizer.post_load_state_dict()


def _check(
    arm: Arm,
    checkpoint: Checkpoint,
    ours: State,
    saved: Collection[str],
    known: Collection[str],
    new_tasks: Collection[str],
    gone_tasks: Collection[str],
    new_rows: NewRows,
) -> None:
    """Raises a ValueError unless the checkpoint has the state that this rank needs, in the right sizes, and no unknown
    names.

    Args:
        ours: this rank's state.
        saved: names in the checkpoint that could belong to it.
        known: names of the state of any rank.
    """
    other_tasks = bool(new_tasks or gone_tasks)
    for name, value in ours.items():
        if _belongs_to(name, new_tasks) or (BALANCING in name and (other_tasks or name in saved)):
            continue  # the balancing layer checks its own state
        if name not in checkpoint.sizes:
            raise ValueError(f"{checkpoint.path}: has no {name}, which this run needs")
        found, expected = checkpoint.sizes[name], value.size()
        if new_rows.size_now(name) != expected:
            raise ValueError(
                f"{checkpoint.path}: {name} has size {list(found)}, expected {list(expected)}"
                f"{_sharding_hint(arm, checkpoint, name)}"
            )
    unknown = [
        name for name in saved if name not in known and BALANCING not in name and not _belongs_to(name, gone_tasks)
    ]
    if unknown:
        raise ValueError(f"{checkpoint.path}: has {min(unknown)}, which this run does not have")


def _sharding_hint(arm: Arm, checkpoint: Checkpoint, name: str) -> str:
    """The message for a table's optimizer state that another plan cannot load."""
    _, _, of_table = name.partition("/optimizer/tables.embedding_bags.embedding_bags.")
    table = unescape(of_table.partition(".")[0])
    before, now = (
        next((each["sharding_type"] for each in tables if each["table"] == table), None)
        for tables in (checkpoint.facts["plan"], describe_plan(arm.model.plan))
    )
    if before is None or before == now:
        return ""
    return (
        f": the table was sharded {before}, now it is {now}, and its optimizer keeps one value per row and column"
        f" shard; go on with sharding.kinds={before}"
    )


def _model_name(arm: Arm, prefix: str, name: str, rank: int) -> str:
    local = isinstance(arm.balancing, BalancingLayer) and arm.balancing.reduction == "local"
    owner = f"rank-{rank}/" if local and name.startswith(BALANCING) else ""
    return f"{owner}{prefix}/model/{name}"


def _optimizer_name(prefix: str, parameter: str, name: str) -> str:
    return f"{prefix}/optimizer/{parameter}/{name}"


def _belongs_to(name: str, tasks: Collection[str]) -> bool:
    """Whether a name is that of a parameter of one of these tasks alone."""
    return any(part in name for part in OF_TASKS) and belongs_to(name, tasks)


def _is_sharded(value: Any) -> bool:
    return isinstance(value, ShardedTensor)
