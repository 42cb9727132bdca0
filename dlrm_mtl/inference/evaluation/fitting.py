"""Which tasks of stored models can be evaluated on a data set."""

from collections.abc import Sequence

from dlrm_mtl.funnels import with_label
from dlrm_mtl.inference.stored_model import StoredModel
from dlrm_mtl.location import Location
from dlrm_mtl.model_schema import ModelSchema, Task
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import Schema


def check_fit(models: Sequence[StoredModel], data: Location, schema: Schema) -> tuple[list[str], list[str]]:
    """Checks that models fit a data set.

    Returns:
        the tasks that the data set and all models have, in the data set's order; and notes for the user: which arms
        were taken, what cannot be compared, which tasks are left out.

    Raises:
        ValueError: ids or dense values stand for something else than in training; there is no such task, or one is
            given another task in the data set than in a model, or has labels of another kind or unit.
    """
    notes = [note for model in models for note in (model.note, model.fit(data, schema).note) if note]
    tasks = [task for task in schema.task_names if all(task in model.tasks for model in models)]
    for model in models:
        if not tasks:
            raise ValueError(
                f"{data}: tasks {quote(list(schema.task_names))}, expected one of"
                f" {quote(list(model.tasks))} of {model.path}"
            )
        for task in tasks:
            now, before = (dict(zip(each.task_names, each.tasks, strict=True))[task] for each in (schema, model.schema))
            now.check_same_labels(before, str(data), str(model.path))
            ours, theirs = _given(schema, now), _given(model.schema, before)
            if not set(ours) & set(theirs):
                raise ValueError(
                    f"{data}: task {quote(task)} is given {quote(ours[0])}, expected {quote(theirs[0])} as in"
                    f" {model.path}"
                )
    everywhere = dict.fromkeys([*schema.task_names, *(task for model in models for task in model.tasks)])
    if left_out := [task for task in everywhere if task not in tasks]:
        notes.append(f"tasks that are not in the data set and in every model, left out: {', '.join(left_out)}")
    return tasks, notes


def _given(schema: ModelSchema, task: Task) -> list[str]:
    """The label that a task is given, empty if it is given none, and the tasks of this label."""
    return [task.given, *(schema.tasks[position].name for position in with_label(schema.tasks, task.given))]
