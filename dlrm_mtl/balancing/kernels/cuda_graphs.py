"""CUDA graphs of computations on small tensors: one launch instead of dozens."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from dlrm_mtl.balancing.kernels.choice import plain_only

WARM_UP = 3
"""Calls before the recording, in which operators allocate what they reuse."""

MOST_GRAPHS = 8

Result = TypeVar("Result")


def may_be_captured(tensor: Tensor) -> bool:
    """Whether operations on the tensor's device may be captured: on a GPU, where nothing traces or captures them
    already."""
    return (
        tensor.is_cuda
        and not plain_only()
        and not is_in_torch_dispatch_mode()
        and not torch.compiler.is_compiling()
        and not torch.cuda.is_current_stream_capturing()
    )


class CapturedStages:
    """Runs stages of a computation: each directly in its first calls, then by replaying a CUDA graph.

    A stage is a function of tensors that launches the same kernels in every call. It may write to tensors that outlive
    it, its state, but must not wait for the device or read values. Its next call overwrites what it returned. A copy of
    this object starts without graphs.

    Raises:
        ValueError: ``DLRM_MTL_KERNELS`` has no valid value.
    """

    def __init__(self) -> None:
        plain_only()  # refuses a bad setting before the first step
        self._graphs: dict[Hashable, _Graph | int] = {}
        """A graph, or the number of calls so far."""

    def __call__(
        self,
        stage: Callable[..., Result],
        inputs: Sequence[Tensor | None],
        options: Mapping[str, Hashable],
        state: Iterable[Tensor],
        others: Hashable,
    ) -> Result:
        """
        Args:
            stage: a method, identified by its name.
            inputs: its tensors.
            options: its other arguments, by name.
            state: other tensors that it reads and writes.
            others: all other values that its result depends on.

        A change of an input's shape, the memory of the state, an option or another value records a new graph.
        """
        addresses = tuple(tensor.data_ptr() for tensor in state)
        forms = tuple(None if tensor is None else (tensor.shape, tensor.dtype) for tensor in inputs)
        key = (stage.__name__, forms, tuple(options.values()), addresses, others)
        graph = self._graphs.get(key, 0)
        if isinstance(graph, int):
            if graph < WARM_UP:
                if len(self._graphs) >= MOST_GRAPHS:
                    self._graphs.clear()
                self._graphs[key] = graph + 1
                return stage(*inputs, **options)
            graph = self._graphs[key] = _Graph(partial(stage, **options), inputs)
        return graph.replay(inputs)

    def __getstate__(self) -> dict[str, Any]:
        return {"_graphs": {}}


class _Graph:
    """A recorded stage, with inputs and outputs in fixed memory."""

    def __init__(self, stage: Callable[..., Any], inputs: Sequence[Tensor | None]) -> None:
        self._inputs = [None if tensor is None else tensor.clone() for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        here, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            # Other threads, such as those that pin memory or watch NCCL, may call functions that this one may not.
            self._graph.capture_begin(capture_error_mode="thread_local")
            try:
                self._outputs = stage(*self._inputs)
            finally:
                self._graph.capture_end()
        here.wait_stream(stream)

    def replay(self, inputs: Sequence[Tensor | None]) -> Any:
        pairs: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for target, value in zip(self._inputs, inputs, strict=True):
            if target is not None and value is not None:
                targets, values = pairs.setdefault(target.dtype, ([], []))
                targets.append(target)
                values.append(value)
        for targets, values in pairs.values():  # one launch per dtype
            torch._foreach_copy_(targets, values)
        self._graph.replay()
        return self._outputs
