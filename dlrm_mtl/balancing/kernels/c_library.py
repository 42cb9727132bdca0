"""The package's C functions, compiled for the processor that runs them when a process first needs them, and kept.

Where there is no C compiler, plain PyTorch does without.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

SOURCES = {
    # No -ffast-math: what is not finite must stay so, and linking with it changes the arithmetic of the whole process.
    "cpu_kernels.c": ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    "shared_sums.c": ("-O2",),
}
"""Flags by file."""

HEADERS = ("balancing.h",)


@lru_cache
def c_library() -> ctypes.CDLL | None:
    """The functions of all sources, compiled by ``CC``, or ``cc``; kept in the user's cache directory, if that may be
    written and is not mounted ``noexec``.

    Returns:
        None where there is no compiler; or, with a warning, where it fails.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    cache = _cache_directory()
    kept = None if cache is None else cache / f"{_digest(compiler)}.so"
    if kept is not None and kept.exists():
        try:
            return ctypes.CDLL(str(kept))
        except OSError:
            pass  # of another C library, say: made anew
    try:
        with tempfile.TemporaryDirectory(prefix="compiling-", dir=cache) as directory:
            library = _compile(compiler, Path(directory))
            if kept is not None:
                library = library.replace(kept)
            return ctypes.CDLL(str(library))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[0]
        warnings.warn(f"gradients are balanced by plain PyTorch, more slowly: {compiler}: {reason}", stacklevel=2)
        return None


def _cache_directory() -> Path | None:
    """Nobody else may write to it, and what lies in it may run."""
    try:
        directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dlrm_mtl"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        runs = not os.statvfs(directory).f_flag & getattr(os, "ST_NOEXEC", 0)
    except (OSError, RuntimeError):
        return None
    private = status.st_uid == os.getuid() and not status.st_mode & 0o022
    return directory if private and runs and os.access(directory, os.W_OK) else None


def _digest(compiler: str) -> str:
    """Of all that the result depends on."""
    found = hashlib.sha256(repr(SOURCES).encode())
    for name in (*SOURCES, *HEADERS):
        found.update(_source(name).read_bytes())
    program = Path(compiler).resolve()
    found.update(f"{program} {program.stat().st_size} {program.stat().st_mtime_ns} {_processor()}".encode())
    return found.hexdigest()[:32]


def _processor() -> str:
    try:
        of_first, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    names = ("model name", "flags", "Features", "CPU part")
    return "\n".join(line for line in of_first.splitlines() if line.startswith(names))


def _compile(compiler: str, directory: Path) -> Path:
    try:
        return _compile_with(compiler, directory, ("-fPIC", "-fopenmp"))
    except subprocess.CalledProcessError:
        return _compile_with(compiler, directory, ("-fPIC",))  # for one thread


def _compile_with(compiler: str, directory: Path, common: tuple[str, ...]) -> Path:
    objects = []
    for name, flags in SOURCES.items():
        objects.append(str(directory / f"{name}.o"))
        _run(compiler, *flags, *common, "-c", "-o", objects[-1], str(_source(name)))
    library = directory / "balancing.so"
    _run(compiler, *common, "-shared", "-o", str(library), *objects, "-lm")
    return library


def _source(name: str) -> Path:
    return Path(__file__).with_name(name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
