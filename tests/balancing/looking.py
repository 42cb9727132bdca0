"""Has a CPU balance as a GPU does: without the host's looking at values."""

from contextlib import AbstractContextManager
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class _Transparent(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


def without_looking() -> AbstractContextManager[Any]:
    """Within, operators are watched, as where they are traced: then nothing may depend on values."""
    return _Transparent()
