"""``dlrm_mtl.train`` with a fault built into every rank: the environment's FAULT, in step 6."""

import os

import dlrm_mtl.training.session  # noqa: F401
from dlrm_mtl import cli, train
from dlrm_mtl.training.trainer import Trainer

FAULTS = {"defect": KeyError("a defect"), "refusal": ValueError("rows of day 3:\n  no such column")}


def build_in(error: Exception) -> None:
    plain = Trainer._train_step

    def step(self: Trainer) -> None:
        if self.step == 6:
            raise error
        plain(self)

    Trainer._train_step = step  # type: ignore[method-assign]


if __name__ == "__main__":
    build_in(FAULTS[os.environ["FAULT"]])
    cli.run("train", train.main)
