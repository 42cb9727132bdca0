"""Imports, in the process from which others are forked, what most of them need."""

from importlib import import_module

from dlrm_mtl import cli
from dlrm_mtl.imports import without_garbage_collection
from dlrm_mtl.run_config import TrainConfig

LIBRARIES = (
    *("torch", "torch.distributed.checkpoint", "torch.distributed.optim", "torch.utils.tensorboard", "tensordict"),
    *("fbgemm_gpu", "torchrec", "torchrec.models.deepfm", "torchrec.models.dlrm", "torchrec.metrics.rec_metric"),
    *("torchrec.distributed.planner", "torchrec.distributed.fbgemm_qcomm_codec"),
    "torchrec.distributed.train_pipeline",
    *("jinja2", "matplotlib.backends.backend_svg", "scipy.optimize", "tqdm", "tyro"),
    *("pyarrow.compute", "pyarrow.parquet"),
    "pandas",  # pyarrow imports it where it is installed
)
BELOW_ENTRY_POINTS = ("dlrm_mtl.reporting.html", "dlrm_mtl.studies.comparison", "data_prep.engine.entry_point")
"""Modules of this project; with what they import, nearly all that training and preparations need."""

with without_garbage_collection():
    for name in (*LIBRARIES, *BELOW_ENTRY_POINTS):
        import_module(name)
    # tyro keeps what it has read from the sources of the option classes.
    cli.parse(TrainConfig, "dlrm_mtl.train", ["--data", ".", "--out", "."])
