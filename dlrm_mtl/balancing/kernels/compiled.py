"""The package's C functions, which ``setup.py`` builds as an optional extension when the package is installed."""

import ctypes
import importlib.util
import warnings
from functools import lru_cache

from dlrm_mtl.balancing.kernels.c_structures import INTERFACE_VERSION
from dlrm_mtl.balancing.kernels.choice import plain_only

EXTENSION = "dlrm_mtl.balancing.kernels.c_functions"


@lru_cache
def c_library() -> ctypes.CDLL | None:
    """The functions; None if they are switched off, or, with a warning, if they were not built or cannot be loaded."""
    if plain_only():
        return None
    try:
        # Not a Python module: nothing is imported.
        specification = importlib.util.find_spec(EXTENSION)
        if specification is not None and specification.origin is not None:
            library = ctypes.CDLL(specification.origin)
            if hasattr(library, "interface_version") and library.interface_version() == INTERFACE_VERSION:
                return library
            reason = f"{specification.origin} was built from older sources, install dlrm_mtl again"
        else:
            reason = "they were not built when dlrm_mtl was installed, which needs a C compiler"
    except OSError as error:
        reason = str(error)
    warnings.warn(
        f"gradients are balanced by plain PyTorch, more slowly, without the C kernels: {reason}", stacklevel=2
    )
    return None
