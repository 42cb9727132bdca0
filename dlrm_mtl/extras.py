"""What the package's extras bring, for entry points that are run without theirs."""

from importlib.util import find_spec

from dlrm_mtl.ending import REFUSED, complain

PREPARE, REPORT, TRAINING, LIGHTGBM, MLFLOW = "prepare", "report", "training", "lightgbm", "mlflow"
"""Kinds of entry points. TRAINING, which is everything else, needs the extra cuda or cpu; LIGHTGBM is one study,
MLFLOW a logger."""

_MODULES = {
    PREPARE: ("pyarrow", "tqdm", "tyro"),
    REPORT: ("jinja2", "matplotlib", "scipy", "tyro"),
    TRAINING: ("fbgemm_gpu", "jinja2", "matplotlib", "pyarrow", "scipy", "tensorboard", "torchrec", "tqdm", "tyro"),
    LIGHTGBM: ("lightgbm",),
    MLFLOW: ("mlflow",),
}
_INSTALL = {
    PREPARE: 'pip install "dlrm-mtl[prepare]"',
    REPORT: 'pip install "dlrm-mtl[report]"',
    TRAINING: 'pip install "dlrm-mtl[cuda]" or, without a GPU, pip install "dlrm-mtl[cpu]" and then pip install'
    " --no-deps torchrec==1.8.0",
    LIGHTGBM: 'pip install "dlrm-mtl[trees]"',
    MLFLOW: 'pip install "dlrm-mtl[mlflow]"',
}


def check_installed(kind: str) -> None:
    """Checks that the third-party modules of a kind of entry points are installed, without importing them.

    Raises:
        ValueError: some are missing; the message says how to install them.
    """
    missing = [module for module in _MODULES[kind] if find_spec(module) is None]
    if missing:
        raise ValueError(f"not installed: {', '.join(missing)}; {_INSTALL[kind]}")


def end_unless_installed(program: str, kind: str) -> None:
    """Ends a program that cannot be imported without the modules of its kind, with a line that says how to install
    them."""
    try:
        check_installed(kind)
    except ValueError as error:
        complain(f"{program}: {error}")
        raise SystemExit(REFUSED) from None
