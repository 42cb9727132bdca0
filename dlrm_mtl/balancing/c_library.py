"""C sources of the package, compiled in a process that needs them, for the processor that it runs on.

Where there is no C compiler, plain PyTorch does without.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path


def build_library(source: Path, *alternatives: Sequence[str]) -> ctypes.CDLL | None:
    """Compiles a source by ``CC``, or ``cc``.

    Args:
        source: a file of C99.
        alternatives: flags, in order of preference; each after one with which compiling failed.

    Returns:
        None where there is no compiler; or, with a warning, where compiling failed with the last flags, too.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    reason = ""
    for flags in alternatives:
        try:
            return _compile(compiler, source, flags)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[0]
    warnings.warn(f"gradients are balanced by plain PyTorch, more slowly: {compiler}: {reason}", stacklevel=2)
    return None


def _compile(compiler: str, source: Path, flags: Sequence[str]) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="dlrm-mtl-") as directory:
        library = Path(directory) / f"{source.stem}.so"
        command = [compiler, *flags, "-fPIC", "-shared", "-o", str(library), str(source), "-lm"]
        subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return ctypes.CDLL(str(library))
