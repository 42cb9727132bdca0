"""One model per task, trained side by side: the baseline against which negative transfer is measured."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from torchrec.distributed.types import ShardingPlan

from dlrm_mtl.arms import SINGLE_TASK
from dlrm_mtl.data.new_ids import Ids
from dlrm_mtl.data.position import Position
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.distributed.checkpoint import Checkpoint
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.metrics.evaluation import Evaluation, side_by_side
from dlrm_mtl.metrics.task_metrics import TaskMetrics
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.state.arm_state import State
from dlrm_mtl.training.trainer import Trainer
from dlrm_mtl.training.window import Window


class SingleTaskTrainers:
    """Trains M models, one per task, as a :class:`Trainer` trains one for all: same plan, data order, initial tables
    and shared layers. A step is one step of each.

    Raises:
        ValueError: as :class:`Trainer`.
    """

    def __init__(self, config: RunConfig, seed: int, source: RowSource, plan: ShardingPlan, ranks: Ranks) -> None:
        # Under a funnel a task needs the tasks before it.
        config = replace(config, model=replace(config.model, relation="independent"))
        self._trainers = {
            task: Trainer(config, parse_recipe("mean"), seed, source.of_tasks([task]), plan, ranks)
            for task in source.dataset.schema.task_names
        }
        self._first = next(iter(self._trainers.values()))

    @property
    def step(self) -> int:
        return self._first.step

    @property
    def position(self) -> Position:
        return self._first.position

    @property
    def total_steps(self) -> int:
        return self._first.total_steps

    @property
    def rows_dropped_per_epoch(self) -> int:
        return self._first.rows_dropped_per_epoch

    @property
    def first_step(self) -> int:
        return self._first.first_step

    @property
    def done(self) -> bool:
        return self._first.done

    @property
    def skipped_steps(self) -> int:
        return sum(trainer.skipped_steps for trainer in self._trainers.values())

    @property
    def rows_lost(self) -> int:
        return self._first.rows_lost

    def train_window(self, steps: int) -> Window:
        """Trains a window of each model. The speed is rows over the sum of the models' times."""
        windows = [trainer.train_window(steps) for trainer in self._trainers.values()]
        one, speeds = windows[0], [window.qps for window in windows]
        nonfinite = {task: count for window in windows for task, count in window.nonfinite_tasks.items()}
        return replace(
            one,
            qps=None if None in speeds else 1 / sum(1 / speed for speed in speeds if speed),
            metrics=[metrics for window in windows for metrics in window.metrics],
            lifetime=[metrics for window in windows for metrics in window.lifetime],
            balancing={},
            skipped_steps=sum(window.skipped_steps for window in windows),
            nonfinite_tasks=nonfinite,
        )

    def evaluate(self, rows: bool = True) -> Evaluation:
        """See :meth:`Trainer.evaluate`; each task by its own model."""
        return side_by_side([trainer.evaluate(rows) for trainer in self._trainers.values()])

    def evaluation_metrics(self) -> tuple[list[TaskMetrics], dict[str, TaskMetrics]]:
        """See :meth:`Trainer.evaluation_metrics`; without products."""
        return [metrics for trainer in self._trainers.values() for metrics in trainer.evaluation_metrics()[0]], {}

    def close(self) -> None:
        """See :meth:`Trainer.close`."""
        for trainer in self._trainers.values():
            trainer.close()

    def state(self, prefix: str) -> State:
        """See :meth:`Trainer.state`."""
        return {
            name: value
            for index, trainer in enumerate(self._trainers.values())
            for name, value in trainer.state(f"{prefix}-{index}").items()
        }

    def restore(self, prefix: str, checkpoint: Checkpoint) -> None:
        """See :meth:`Trainer.restore`."""
        for index, trainer in enumerate(self._trainers.values()):
            trainer.restore(f"{prefix}-{index}", checkpoint)

    def start_from(
        self,
        prefix: str,
        checkpoint: Checkpoint,
        keep_balancer: bool,
        goes_on: bool = False,
        new_ids: Mapping[str, Ids] = MappingProxyType({}),
    ) -> list[str]:
        """See :meth:`Trainer.start_from`. From one model of all tasks, each loads the shared part and its own head;
        from one model per task, each loads its own task's model. Models of new tasks keep their initial weights."""
        tasks, source = checkpoint.facts["tasks"], checkpoint.facts["arms"][int(prefix)]
        per_task = parse_recipe(source).method == SINGLE_TASK
        anew: list[str] = []
        for task, trainer in self._trainers.items():
            if not per_task or task in tasks:
                own = f"{prefix}-{tasks.index(task)}" if per_task else prefix
                anew += trainer.start_from(own, checkpoint, keep_balancer, goes_on, new_ids)
            else:
                anew.append(f"the model of {task}")
                if goes_on:
                    trainer.start_beside(checkpoint)
        return anew
