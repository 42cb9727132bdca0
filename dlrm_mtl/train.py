"""Trains one arm: ``python -m dlrm_mtl.train --data DIR --out RUN --arm multibalance:beta=0.1``.

Writes ``RUN/result.json`` beside the logs, and the trained model as a checkpoint. An interrupted run continues from its
newest checkpoint when it is started again with the same options.
"""

from dlrm_mtl import cli
from dlrm_mtl.distributed.versions import torchrec_imports
from dlrm_mtl.extras import TRAINING
from dlrm_mtl.files import read_json
from dlrm_mtl.run_config import TrainConfig


def main() -> None:
    config = cli.parse(TrainConfig, "dlrm_mtl.train")
    with torchrec_imports():
        from dlrm_mtl.monitoring.mirror import mirrored
        from dlrm_mtl.reporting.markdown import format_result
        from dlrm_mtl.reporting.run_results import write_result
        from dlrm_mtl.training.loop import train_arms
        from dlrm_mtl.training.session import open_session

    with mirrored(config) as mirror, open_session(config, [config.arm], mirror) as session:
        results = train_arms(session, [config.arm], config.seed, config.out)
        if session.ranks.is_first:
            file = write_result(config, session.source.dataset.schema, session.length, results)
            print(f"\n{format_result(read_json(file))}\nresult: {file}", flush=True)


if __name__ == "__main__":
    cli.run("train", main, TRAINING)
