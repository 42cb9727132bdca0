"""Computations on small tensors of a GPU, recorded in CUDA graphs: one launch instead of some dozens."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from dlrm_mtl.balancing.kernels.choice import plain_only

WARM_UP = 3
"""Calls that run as they are, in which operators make the tables and workspaces that they keep."""

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
    """Runs stages of a computation: each as it is for some calls, then by the replay of a CUDA graph.

    A stage is a function of tensors, or None, that launches the same kernels in every call: it may write to tensors
    that outlive it, its state, but neither wait for the device nor look at values. What it returns is overwritten by
    its next call. A copy of this object starts without graphs.

    Raises:
        ValueError: ``DLRM_MTL_KERNELS`` has another value than it may.
    """

    def __init__(self) -> None:
        plain_only()  # refuses a bad setting before the first step
        self._graphs: dict[Hashable, _Graph | int] = {}
        """Graphs, and counts of calls so far."""

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
            stage: a method; known by its name.
            inputs: its tensors.
            options: its other arguments, by name.
            state: the tensors that it reads and writes beside them.
            others: all else that its result depends on.

        Where an input's shape, the memory of the state, or an option changes, another graph is recorded.
        """
        addresses = tuple(tensor.data_ptr() for tensor in state)
        forms = tuple(None if tensor is None else (tensor.shape, tensor.dtype) for tensor in inputs)
        key = (stage.__name__, forms, tuple(options.values()), addresses, others)
        known = self._graphs.get(key, 0)
        if isinstance(known, int):
            if known < WARM_UP:
                if len(self._graphs) >= MOST_GRAPHS:
                    self._graphs.clear()
                self._graphs[key] = known + 1
                return stage(*inputs, **options)
            known = self._graphs[key] = _Graph(partial(stage, **options), inputs)
        return known.replay(inputs)

    def __getstate__(self) -> dict[str, Any]:
        return {"_graphs": {}}


class _Graph:
    """A stage's kernels, with inputs and outputs at fixed places."""

    def __init__(self, stage: Callable[..., Any], inputs: Sequence[Tensor | None]) -> None:
        self._inputs = [None if tensor is None else tensor.clone() for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        here, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            # Other threads, such as those that pin memory or watch NCCL, may call what this one may not.
            self._graph.capture_begin(capture_error_mode="thread_local")
            try:
                self._outputs = stage(*self._inputs)
            finally:
                self._graph.capture_end()
        here.wait_stream(stream)

    def replay(self, inputs: Sequence[Tensor | None]) -> Any:
        pairs: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for place, value in zip(self._inputs, inputs, strict=True):
            if place is not None and value is not None:
                places, values = pairs.setdefault(place.dtype, ([], []))
                places.append(place)
                values.append(value)
        for places, values in pairs.values():  # one launch for all of a dtype
            torch._foreach_copy_(places, values)
        self._graph.replay()
        return self._outputs
