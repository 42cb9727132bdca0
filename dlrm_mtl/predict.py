"""Predictions for every row: ``python -m dlrm_mtl.predict --checkpoint RUN --data DIR --out OUT --columns NAME ...``.

Writes ``OUT/parts/*.parquet`` and ``OUT/predictions.json``. When it was interrupted, the same command goes on.
"""

from dlrm_mtl import cli
from dlrm_mtl.distributed.versions import torchrec_imports
from dlrm_mtl.extras import TRAINING
from dlrm_mtl.inference.predictions.options import PredictOptions


def main() -> None:
    options = cli.parse(PredictOptions, "dlrm_mtl.predict")
    with torchrec_imports():
        from dlrm_mtl.distributed.processes import process_group
        from dlrm_mtl.inference.predictions.predicting import predict

    with process_group(options.timeout_s) as ranks:
        predict(options, ranks)


if __name__ == "__main__":
    cli.run("predict", main, TRAINING)
