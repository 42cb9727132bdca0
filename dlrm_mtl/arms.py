"""From an arm's text to its balancing layer. Imports torch but not torchrec, so that launchers can check arms
quickly."""

from collections.abc import Sequence
from typing import Any

import torch.distributed as dist

from dlrm_mtl.balancing import Balancer, BalancingLayer, MissingModuleError, ParameterLevelLayer, create_balancer
from dlrm_mtl.module_names import escape
from dlrm_mtl.quoting import quote
from dlrm_mtl.recipe import Recipe, parse_recipe

__all__ = ["SINGLE_TASK", "MissingModuleError", "build_layer", "check_arm", "check_arm_without_data", "check_level"]

SINGLE_TASK = "single_task"
"""The arm that trains a model of its own for each task."""


def build_layer(
    recipe: Recipe, task_names: Sequence[str], group: dist.ProcessGroup | None = None
) -> BalancingLayer | ParameterLevelLayer:
    """The balancing layer of an arm.

    Args:
        recipe: in steps, see :meth:`Recipe.in_steps`.
        group: the model's process group.

    Raises:
        ValueError: unknown method, option or reduction, a value out of range, or a class that cannot be imported or has
            no ``coefficients``.
    """
    names = [escape(task) for task in task_names]
    options = {name: _by_task(value) for name, value in recipe.options.items()}
    balancer = create_balancer(recipe.method, len(names), task_names=names, **options)
    if type(balancer).coefficients is Balancer.coefficients:
        raise ValueError(f"arm {quote(recipe.text)}: expected a class with a method coefficients")
    if recipe.level == "representation":
        return BalancingLayer(balancer, group, recipe.reduction)  # type: ignore[arg-type]
    return ParameterLevelLayer(balancer, group)


def check_arm(recipe: Recipe, task_names: Sequence[str]) -> None:
    """Checks that an arm can be built.

    Raises:
        MissingModuleError: the module of its class is not on this machine.
        ValueError: see :func:`build_layer`.
    """
    if recipe.method != SINGLE_TASK:
        build_layer(recipe.in_steps(1), task_names)
    elif recipe != parse_recipe(SINGLE_TASK):
        raise ValueError(f"arm {quote(recipe.text)}: {SINGLE_TASK} has no options")


def check_level(recipe: Recipe, interaction_has_parameters: bool) -> None:
    """Checks that the model has the parameters whose gradients an arm balances.

    Raises:
        ValueError: it has none.
    """
    if recipe.level == "interaction" and not interaction_has_parameters:
        raise ValueError(
            f"arm {quote(recipe.text)}: level=interaction: this interaction has no parameters, expected one that has,"
            " such as model.interaction=dcn"
        )


def check_arm_without_data(recipe: Recipe) -> None:
    """Checks an arm where the data set is not on this machine: with as many tasks as its options have values for.

    Raises:
        ValueError: see :func:`check_arm`.
    """
    values = recipe.options.values()
    named = [name for value in values if isinstance(value, dict) for name in value]
    lengths = [len(value) for value in values if isinstance(value, list)]
    check_arm(recipe, list(dict.fromkeys(named)) or [f"task {number}" for number in range(max(lengths, default=2))])


def _by_task(value: Any) -> Any:
    """An option of the method, with the names that tasks have inside the model."""
    return {escape(task): number for task, number in value.items()} if isinstance(value, dict) else value
