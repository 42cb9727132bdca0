"""Trains one arm: ``python -m dlrm_mtl.train --data DIR --out RUN --arm multibalance:beta=0.1``.

Writes ``RUN/result.json`` beside the logs, and the trained model as a checkpoint. An interrupted run continues from its
newest checkpoint when it is started again with the same options.
"""

from dlrm_mtl import cli
from dlrm_mtl.config import TrainConfig
from dlrm_mtl.distributed.versions import torchrec_imports
from dlrm_mtl.extras import TRAINING
from dlrm_mtl.files import write_json


def main() -> None:
    config = cli.parse(TrainConfig, "dlrm_mtl.train")
    with torchrec_imports():
        from dlrm_mtl.reporting.markdown import format_result
        from dlrm_mtl.reporting.seed_summary import summarize_seed
        from dlrm_mtl.training.loop import train_arms
        from dlrm_mtl.training.session import open_session

    with open_session(config, [config.arm]) as session:
        results = train_arms(session, [config.arm], config.seed, config.out)
        if session.ranks.is_first:
            summary = summarize_seed(config.seed, session.tasks, results, session.length)
            write_json(config.out / "result.json", summary)
            print(f"\n{format_result(summary)}\nresult: {config.out / 'result.json'}", flush=True)


if __name__ == "__main__":
    cli.run("train", main, TRAINING)
