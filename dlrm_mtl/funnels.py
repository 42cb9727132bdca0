"""Funnels of binary tasks: each is defined where the label of the task before is 1, as conversion given a click. Free
of torch."""

from collections.abc import Sequence
from contextlib import suppress

from dlrm_mtl.model_schema import Task
from dlrm_mtl.quoting import quote


def chain_to(tasks: Sequence[Task], last: int) -> tuple[int, ...]:
    """The positions of the tasks that the last one is given, from the unconditional one on, and its own. A regression
    task is a chain by itself.

    Raises:
        ValueError: one of them is given a label that is not that of exactly one other task, is given itself, or has
            other row weights than the one before it.
    """
    positions = [last]
    while tasks[last].kind == "binary" and (given := tasks[positions[0]].given):
        name, before = tasks[positions[0]].name, with_label(tasks, given)
        if len(before) != 1:
            labels = ", ".join(quote(task.label) for task in tasks)
            raise ValueError(
                f"task {quote(name)} is given {quote(given)}, the label of {len(before)} tasks, expected the label of"
                f" one task, of {labels}"
            )
        if before[0] in positions:
            raise ValueError(f"task {quote(name)} is given itself, by way of {quote(given)}")
        if tasks[before[0]].weight != tasks[last].weight:
            weights = " and ".join(
                quote(tasks[task].weight) if tasks[task].weight else "none" for task in (before[0], last)
            )
            raise ValueError(
                f"task {quote(tasks[last].name)} and those it is given have row weights {weights}, expected the same"
            )
        positions.insert(0, before[0])
    return tuple(positions)


def with_label(tasks: Sequence[Task], label: str) -> list[int]:
    """The positions of the tasks with this label."""
    return [position for position, task in enumerate(tasks) if task.label == label]


def products(tasks: Sequence[Task]) -> dict[str, tuple[int, ...]]:
    """The :func:`chain_to` of each conditional task that has one, by its name. The product of their probabilities is
    that of all their labels being 1, and is defined in every row."""
    chains: dict[str, tuple[int, ...]] = {}
    for position, task in enumerate(tasks):
        if task.given and task.kind == "binary":
            with suppress(ValueError):
                chains[task.name] = chain_to(tasks, position)
    return chains


def output_names(tasks: Sequence[Task]) -> dict[str, tuple[int, ...]]:
    """The M + P predictions of a model by name, with the positions of their tasks: those of the tasks, then of the
    :func:`products`, ``click_and_buy`` by the names of their tasks.

    Raises:
        ValueError: a task has the name of a product.
    """
    outputs: dict[str, tuple[int, ...]] = {task.name: (position,) for position, task in enumerate(tasks)}
    for chain in products(tasks).values():
        name = "_and_".join(tasks[position].name for position in chain)
        if name in outputs:
            raise ValueError(f"task {quote(name)} has the name of a product of tasks")
        outputs[name] = chain
    return outputs
