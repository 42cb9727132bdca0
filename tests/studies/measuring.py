"""Runs the theory study on a data set, small: ``python -m tests.studies.measuring DATA OUT [POPULATION]``."""

import sys
from pathlib import Path

from dlrm_mtl import cli
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.files import write_json
from dlrm_mtl.studies.theory import measure_theory
from dlrm_mtl.studies.theory_case import TheoryCase

MODEL = ModelConfig("dcn", embedding_dim=4, bottom_mlp=(8,), head_mlp=(8,))


def main() -> None:
    data, out, *population = sys.argv[1:]
    case = TheoryCase(
        Path(data),
        steps=12,  # more than an epoch holds
        train_batch_size=64,
        population=int(*population or ["256"]),
        batch_sizes=(16, 64),
        batches=3,
        seeds=2,
        log_every=4,
        model=MODEL,
    )
    write_json(Path(out), measure_theory(case))


if __name__ == "__main__":
    cli.run("measuring", main)
