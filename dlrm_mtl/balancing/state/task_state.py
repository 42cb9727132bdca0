"""State with one value per task, stored by task name, so that a checkpoint can be loaded into another task set."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from dlrm_mtl.balancing.state.initial_state import InitialState, device_of_stored

Entries = Mapping[str, tuple[int, ...]]
"""The index in a tensor of each task, or pair of tasks, by its name."""


def task_entries(names: Sequence[str]) -> Entries:
    """For a tensor (M, ...): the row of each task."""
    return {name: (m,) for m, name in enumerate(names)}


def pair_entries(names: Sequence[str]) -> Entries:
    """For a tensor (M, M): the index of each pair, named ``FIRST/SECOND``.

    Raises:
        ValueError: two pairs have the same name, as may happen with tasks "a", "b", "a/b" and "b/a".
    """
    entries = {f"{first}/{second}": (i, j) for i, first in enumerate(names) for j, second in enumerate(names)}
    if len(entries) < len(names) ** 2:
        raise ValueError(f"pairs of the tasks {list(names)} have ambiguous names FIRST/SECOND, expected no '/' in them")
    return entries


class TaskState(InitialState):
    """A module whose state is keyed by task name.

    A buffer registered by :meth:`register_task_state` is stored under ``NAME.TASK``, one registered by
    :meth:`register_pair_state` under ``NAME.FIRST/SECOND``. Tasks that the checkpoint lacks keep their state
    and are reported as missing keys; tasks that only the checkpoint has, as unexpected keys.

    Args:
        task_names: unique names, in order.
    """

    def __init__(self, task_names: Sequence[str]) -> None:
        super().__init__()
        self.task_names = tuple(task_names)
        self._entries: dict[str, Entries] = {}

    def register_task_state(self, name: str, initial: Tensor | None = None) -> None:
        """Registers a float64 buffer with one row per task, (M,) or (M, D); by default (M,) zeros. The first step sets
        the width of (M, 0)."""
        if initial is None:
            initial = torch.zeros(len(self.task_names), device="cpu")
        self.register_buffer(name, initial.double())
        self._entries[name] = task_entries(self.task_names)

    def register_pair_state(self, name: str, initial: Tensor) -> None:
        """Registers a (M, M) float64 buffer with one value per pair of tasks.

        Raises:
            ValueError: two pairs have the same name.
        """
        self.register_buffer(name, initial.double())
        self._entries[name] = pair_entries(self.task_names)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the state with the model, but keeps it in float64 where the model is cast."""
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in self.named_buffers(recurse=False):
            if buffer.dtype != before[name].dtype:
                self._buffers[name] = before[name].to(buffer.device)
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, entries in self._entries.items():
            values = destination.pop(prefix + name)
            for entry, index in entries.items():
                destination[f"{prefix}{name}.{entry}"] = values[index]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        _, _, missing_keys, unexpected_keys, error_msgs = arguments
        # Copies, since assign=True must not make the state dict's tensors the module's state.
        device = device_of_stored(state_dict, prefix)
        rest = {
            key: value.clone() if isinstance(value, Tensor) and key.removeprefix(prefix) in self._buffers else value
            for key, value in state_dict.items()
        }
        for name, entries in self._entries.items():
            start = f"{prefix}{name}."
            stored = {key.removeprefix(start): rest.pop(key) for key in state_dict if key.startswith(start)}
            missing_keys += [start + entry for entry in entries if entry not in stored]
            unexpected_keys += [start + entry for entry in stored if entry not in entries]
            if prefix + name in state_dict:  # never stored under this name
                unexpected_keys.append(prefix + name)
            loaded = {entry: value for entry, value in stored.items() if entry in entries}
            values = self._of_stored_width(name, list(loaded.values()))
            if values.is_meta and device is not None:  # tasks that are not stored get their initial values
                values = torch.zeros_like(values, device=device)
                if values.shape == self._initial[name].shape:
                    values.copy_(self._initial[name])
            for entry, value in loaded.items():
                expected = values[entries[entry]].shape
                if value.shape != expected:
                    error_msgs.append(
                        f"size mismatch for {start}{entry}: {tuple(value.shape)} found, expected {tuple(expected)}"
                    )
                else:
                    values[entries[entry]] = value
            rest[prefix + name] = values
        super()._load_from_state_dict(rest, prefix, *arguments)

    def _of_stored_width(self, name: str, stored: Sequence[Tensor]) -> Tensor:
        """A copy of a buffer. Rows (M, D) become zeros of the stored width if either width is 0."""
        values = self.get_buffer(name)
        for row in {value.shape for value in stored}:
            if row != values.shape[1:] and len(row) == values.dim() - 1 and 0 in (*row, *values.shape[1:]):
                values = self._buffers[name] = values.new_zeros(len(values), *row)
        return values.clone()
