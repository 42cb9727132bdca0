"""Modules that keep the initial values of their buffers, which the meta device cannot hold."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class InitialState(nn.Module):
    """A module whose buffers can be reset to their initial values.

    This happens in :meth:`reset_parameters`; when a module that was built on the meta device receives memory
    (``to_empty``); and when it is loaded with ``assign=True``, for keys that the state dict lacks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._initial: dict[str, Tensor] = {}

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Registers a buffer. A tensor on the CPU is moved to the default device.

        Raises:
            ValueError: a tensor on the meta device, which has no values.
        """
        if tensor is not None and name not in self._initial:
            if tensor.is_meta:
                raise ValueError(
                    f"{type(self).__name__}: the initial values of {name!r} are on the meta device, expected them on"
                    ' the CPU: make them with device="cpu"'
                )
            self._initial[name] = tensor.detach().to("cpu", copy=True)
            if tensor.is_cpu:
                tensor = tensor.to(torch.empty(0).device)
        super().register_buffer(name, tensor, persistent)

    def reset_parameters(self) -> None:
        """Resets all state to that of a new module, on its present device."""
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._give_initial_value(name, buffer.device)

    def _give_initial_value(self, name: str, device: torch.device) -> None:
        initial, buffer = self._initial[name], self._buffers[name]
        if buffer is not None and (buffer.shape, buffer.dtype, buffer.device) == (initial.shape, initial.dtype, device):
            with torch.no_grad():
                buffer.copy_(initial)
        else:
            self._buffers[name] = initial.to(device, copy=True)

    def _buffers_on_meta(self) -> list[str]:
        return [name for name, buffer in self._buffers.items() if buffer is not None and buffer.is_meta]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        without_values = self._buffers_on_meta()
        super()._apply(fn, recurse)
        for name in set(without_values) - set(self._buffers_on_meta()):
            self._give_initial_value(name, self.get_buffer(name).device)
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *arguments: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *arguments)
        device = device_of_stored(state_dict, prefix)
        if local_metadata.get("assign_to_params_buffers") and device is not None:
            for name in self._buffers_on_meta():
                self._give_initial_value(name, device)
            self._buffers.update({name: None if b is None else b.to(device) for name, b in self._buffers.items()})


def device_of_stored(state_dict: dict[str, Any], prefix: str) -> torch.device | None:
    """The device of a module's part of a state dict; None if it has none."""
    stored = (value for key, value in state_dict.items() if key.startswith(prefix) and isinstance(value, Tensor))
    return next((value.device for value in stored), None)
