"""The check at start-up that torch, torchrec and fbgemm go together."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from dlrm_mtl.imports import without_garbage_collection

TORCH = "2.13"
TORCHREC = "1.8"


def check_versions() -> dict[str, str]:
    """Versions of the three, by distribution name.

    They are built against each other: other combinations fail with undefined symbols or missing operators.

    Raises:
        ValueError: one is missing or has another version; the message names the right ones.
    """
    fbgemm = "fbgemm-gpu" if _version("fbgemm-gpu") else "fbgemm-gpu-cpu"
    expected = {"torch": TORCH, "torchrec": TORCHREC, fbgemm: TORCHREC}
    found = {name: _version(name) for name in expected}
    if any(found[name] is None or not _matches(str(found[name]), version) for name, version in expected.items()):
        wanted = f"torch {TORCH}, torchrec {TORCHREC} and fbgemm-gpu (or fbgemm-gpu-cpu) {TORCHREC}"
        have = ", ".join(f"{name} {version or 'is not installed'}" for name, version in found.items())
        raise ValueError(f"versions that do not go together: {have}; expected {wanted}, see docs/installing.md")
    return {name: str(version) for name, version in found.items()}


@contextmanager
def torchrec_imports() -> Iterator[None]:
    """Around an entry point's imports of torchrec, which take seconds, so that they come after ``--help`` and errors in
    options.

    Raises:
        ValueError: see :func:`check_versions`; imports of versions that do not go together fail in obscure ways.
    """
    check_versions()
    with without_garbage_collection():
        yield


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _matches(version: str, expected: str) -> bool:
    return version.split("+")[0].split(".")[:2] == expected.split(".")
