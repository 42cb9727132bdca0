"""The logger for MLflow: ``--logger dlrm_mtl.monitoring.mlflow:MLflow``, with the extra ``mlflow``."""

import re
import time
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.environment_variables import MLFLOW_EXPERIMENT_NAME

from dlrm_mtl.files import write_text
from dlrm_mtl.monitoring.logger import LoggedArm, Outcome

STATUSES: Mapping[Outcome, str] = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
MAX_METRICS, MAX_PARAMS = 1000, 100
"""Of a request to MLflow."""


class MLflow:
    """A run of MLflow for each arm and seed, which goes on after restarts: its id is in the file ``mlflow-run`` of the
    arm's folder. See :class:`dlrm_mtl.monitoring.logger.Logger`.

    The server is MLflow's choice, usually ``MLFLOW_TRACKING_URI``; the experiment is ``MLFLOW_EXPERIMENT_NAME``, by
    default ``dlrm_mtl``, and made if it is missing.
    """

    def __init__(self) -> None:
        self._client = MlflowClient()
        name = MLFLOW_EXPERIMENT_NAME.get() or "dlrm_mtl"
        experiment = self._client.get_experiment_by_name(name)
        self._experiment = experiment.experiment_id if experiment else self._client.create_experiment(name)
        self._runs: dict[LoggedArm, str] = {}

    def begin(self, arm: LoggedArm) -> None:
        file = arm.directory / "mlflow-run"
        if file.is_file():
            self._runs[arm] = run = file.read_text().strip()
            self._client.update_run(run, "RUNNING")
            return
        self._runs[arm] = run = self._client.create_run(self._experiment, run_name=arm.name).info.run_id
        self._client.set_tag(run, "directory", str(arm.directory))
        options = {**arm.options, "arm": arm.arm, "seed": arm.seed}
        params = [Param(_allowed(name), str(value)) for name, value in options.items()]
        for first in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(run, params=params[first : first + MAX_PARAMS])
        write_text(file, f"{run}\n")

    def log(self, arm: LoggedArm, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(_allowed(name), value, now, step) for name, value in values.items()]
        for first in range(0, len(metrics), MAX_METRICS):
            self._client.log_batch(self._runs[arm], metrics[first : first + MAX_METRICS])

    def end(self, arm: LoggedArm, outcome: Outcome) -> None:
        self._client.set_terminated(self._runs.pop(arm), STATUSES[outcome])


def _allowed(name: str) -> str:
    """A name with ``_`` for characters that MLflow refuses."""
    return re.sub(r"[^\w./: -]", "_", name)
