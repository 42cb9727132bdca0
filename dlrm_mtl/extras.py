"""What the package's extras bring, for entry points that are run without theirs."""

from importlib.util import find_spec

PREPARE, REPORT, TRAINING = "prepare", "report", "training"
"""Kinds of entry points. What trains needs the extra cuda or the extra cpu."""

_MODULES = {
    PREPARE: ("pyarrow", "tqdm", "tyro"),
    REPORT: ("jinja2", "matplotlib", "scipy", "tyro"),
    TRAINING: ("fbgemm_gpu", "jinja2", "matplotlib", "pyarrow", "scipy", "tensorboard", "torchrec", "tqdm", "tyro"),
}
_INSTALL = {
    PREPARE: 'pip install "dlrm-mtl[prepare]"',
    REPORT: 'pip install "dlrm-mtl[report]"',
    TRAINING: 'pip install "dlrm-mtl[cuda]"; without a GPU pip install "dlrm-mtl[cpu]" and '
    "pip install --no-deps torchrec==1.8.0",
}


def check_installed(kind: str) -> None:
    """Checks that the third-party modules of a kind of entry points are there, without importing them.

    Raises:
        ValueError: some are missing; the message says how to install them.
    """
    missing = [module for module in _MODULES[kind] if find_spec(module) is None]
    if missing:
        raise ValueError(f"not installed: {', '.join(missing)}. {_INSTALL[kind]}")
