"""Trains and evaluates one arm, window by window."""

import time
from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from types import MappingProxyType

import torch
import torch.distributed as dist
from torchrec.distributed.types import ShardingPlan

from dlrm_mtl.data.assembly import Rows
from dlrm_mtl.data.batch import FILL, LOST, MultiTaskBatch
from dlrm_mtl.data.new_ids import Ids
from dlrm_mtl.data.position import Position
from dlrm_mtl.data.reader import TrainingReader, batches, reader_streams
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.distributed.checkpoint import Checkpoint, load_tensors
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.metrics.evaluation import Evaluation
from dlrm_mtl.metrics.sums import MetricSums, in_this_versions_columns
from dlrm_mtl.metrics.task_metrics import TaskMetrics
from dlrm_mtl.recipe import Recipe
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.arm import build_arm
from dlrm_mtl.training.arm_evaluator import ArmEvaluator
from dlrm_mtl.training.diagnostics import balancing_diagnostics
from dlrm_mtl.training.pipeline import build_pipeline
from dlrm_mtl.training.state.arm_state import State, arm_state, restore_arm, start_arm
from dlrm_mtl.training.window import Window
from dlrm_mtl.training_length import TrainingLength


class DivergedError(ValueError):
    """Losses or gradients of an arm stay not finite. Raised on every rank."""


class Trainer:
    """Builds an arm and trains it.

    Control and treatment differ only in the balancer: initial weights and data order are functions of the seed.

    Args:
        recipe: the arm's balancing method.
        seed: of initial weights and data order.

    Raises:
        ValueError: the configuration does not fit data set, method or device.
    """

    def __init__(
        self, config: RunConfig, recipe: Recipe, seed: int, source: RowSource, plan: ShardingPlan, ranks: Ranks
    ) -> None:
        schema = source.dataset.schema
        self._config = config
        self._source = source
        self._ranks = ranks
        self._local_batch_size = config.local_batch_size(ranks.world_size)
        self.total_steps = TrainingLength.of(config, schema, ranks.world_size).steps
        """The step at which training ends."""
        self.arm = build_arm(config, recipe.in_steps(self.total_steps), seed, schema, plan, ranks)
        self.pipeline = build_pipeline(self.arm, ranks.device)
        self.drains = self.arm.prefetch
        """Whether the pipeline is emptied between windows, since rows prefetched for training would be taken for those
        of the evaluation."""
        self._reader = TrainingReader(
            source,
            self._local_batch_size,
            seed,
            ranks.rank,
            ranks.world_size,
            config.reader.shuffle_rows,
            reader_streams(config.reader, self._pin_memory),
        )
        self.evaluator = ArmEvaluator(config, source, self.pipeline, ranks)
        self.rows_dropped_per_epoch = self._reader.rows_dropped
        self.first_step = 0
        """The step at which training on this data set began: the number of steps that went on before."""
        self.step = 0
        self.position = Position()
        self.skipped_steps = 0
        """Steps of the run without effect, because a loss or gradient was not finite, up to the end of the
        last window."""
        self.rows_lost = 0
        """Rows of lost shards in the run, up to the end of the last window."""
        self._rows_lost, self._rows_filled = torch.zeros(2, dtype=torch.int64, device=ranks.device).unbind()
        self._recipe = recipe
        self._reading = self._read()
        self._stream: Iterator[MultiTaskBatch] | None = None
        self._batches: Iterator[MultiTaskBatch] = iter(())
        if ranks.device.type == "cpu" and ranks.world_size > 2:
            self._arrange_buckets()
        self._window = MetricSums(schema.task_kinds, ranks.device)
        self._lifetime = MetricSums(schema.task_kinds, torch.device("cpu"))

    @property
    def done(self) -> bool:
        return self.step >= self.total_steps

    def train_window(self, steps: int) -> Window:
        """Trains up to ``steps`` steps, fewer at the end of the data. Collective.

        All steps but the last are timed, between two synchronisations. In the last one every arm records its gradients'
        Gramian, which is not part of the control's cost.

        Raises:
            ValueError: too many steps in a row were skipped; on every rank.
        """
        first = self.step
        steps = min(steps, self.total_steps - first)
        self.arm.model.train()
        self._feed(steps)
        self._ranks.synchronize()
        start = time.perf_counter()
        for _ in range(steps - 1):
            self._train_step()
        self._ranks.synchronize()
        seconds = time.perf_counter() - start
        self.arm.balancing.observe()
        self._train_step()
        self.position = self._reader.advance(self.position, self.step - first)

        self._window.reduce(self._ranks.group)
        window = self._window.compute()
        self._lifetime.add(self._window)
        self._window.reset()
        skipped_steps, rows_lost, rows_filled, nonfinite_tasks = self._take_counts()
        rows = steps * self._config.batch_size - rows_filled
        self._ranks.watch.pause()
        return Window(
            first_step=first,
            last_step=self.step,
            # Padding is spread evenly over steps.
            qps=(steps - 1) / steps * rows / seconds if steps > 1 else None,
            metrics=window,
            lifetime=self._lifetime.compute(),
            balancing=balancing_diagnostics(self.arm.balancing),
            skipped_steps=skipped_steps,
            nonfinite_tasks=nonfinite_tasks,
            rows_lost=rows_lost,
            rows=rows,
        )

    def close(self) -> None:
        """Ends reading, and the reader processes."""
        self._reading.close()

    def state(self, prefix: str) -> State:
        """The state of this arm for a checkpoint, except ``step`` and ``position``; names begin with ``prefix`` (or a
        rank). Call it between windows. Collective."""
        counts = torch.tensor([self.skipped_steps, int(self.arm.optimizer.guard.run), self.rows_lost])
        return {
            **arm_state(self.arm, prefix, self._ranks.rank),
            f"{prefix}/lifetime/sums": self._lifetime.sums,
            f"{prefix}/lifetime/histogram": self._lifetime.histogram,
            f"{prefix}/lifetime/counts": counts,
        }

    def restore(self, prefix: str, checkpoint: Checkpoint) -> None:
        """Loads the state of an untrained trainer from a checkpoint, on any ranks and plan. Collective.

        Raises:
            ValueError: the checkpoint does not fit.
        """
        restore_arm(self.arm, prefix, checkpoint, self._ranks)
        sizes = {"sums": self._lifetime.sums.size(), "histogram": self._lifetime.histogram.size(), "counts": (3,)}
        names = [f"{prefix}/lifetime/{name}" for name in sizes]
        loaded = load_tensors(checkpoint, {}, names, self._ranks)
        loaded[names[0]] = in_this_versions_columns(loaded[names[0]])
        for name, size in zip(names, sizes.values(), strict=True):
            if loaded[name].size() != size:
                found = list(loaded[name].size())
                raise ValueError(f"{checkpoint.path}: {name} has size {found}, expected {list(size)}")
        self._lifetime.sums, histogram, counts = (loaded[name] for name in names)
        self._lifetime.histogram = histogram.double()
        self.skipped_steps, run, self.rows_lost = counts.tolist()
        self.arm.optimizer.guard.run.fill_(run)
        self.position = Position.from_json(checkpoint.facts["position"])
        self._go_on_at(checkpoint.facts.get("first_step", 0))
        self.step = checkpoint.step
        if self.position.epoch * self._reader.steps + self.position.steps != self.step - self.first_step:
            raise ValueError(
                f"{checkpoint.path}: step {self.step - self.first_step}, expected that of epoch"
                f" {self.position.epoch} and {self.position.steps} of its {self._reader.steps} steps"
            )

    def start_from(
        self,
        prefix: str,
        checkpoint: Checkpoint,
        keep_balancer: bool,
        goes_on: bool = False,
        new_ids: Mapping[str, Ids] = MappingProxyType({}),
    ) -> list[str]:
        """Starts an untrained trainer from a checkpoint, possibly with other tasks and larger tables, see
        :func:`start_arm`. Collective.

        Args:
            goes_on: whether steps and schedules go on, see :class:`Start`.
        """
        tasks, before = self._source.dataset.schema.task_names, checkpoint.facts["tasks"]
        anew = start_arm(self.arm, prefix, checkpoint, self._ranks, tasks, keep_balancer, goes_on, new_ids)
        if goes_on:
            self.evaluator.withhold(new_ids, [task for task in tasks if task not in before])
            self._go_on_at(checkpoint.step)
        return anew

    def start_beside(self, checkpoint: Checkpoint) -> None:
        """Counts the steps of an untrained trainer, whose tasks a checkpoint has not, from the checkpoint's on."""
        self.evaluator.withhold({}, self._source.dataset.schema.task_names)
        self._go_on_at(checkpoint.step)

    def _go_on_at(self, step: int) -> None:
        self.total_steps += step - self.first_step
        self.first_step = self.step = step

    def evaluate(self, rows: bool = True) -> Evaluation:
        """See :meth:`ArmEvaluator.evaluate`. Collective."""
        return self.evaluator.evaluate(rows)

    def evaluation_metrics(self) -> tuple[list[TaskMetrics], dict[str, TaskMetrics]]:
        """See :meth:`ArmEvaluator.metrics`. Collective."""
        return self.evaluator.metrics()

    def _train_step(self) -> None:
        self._ranks.watch.progress("training", self.step)
        predictions = self.pipeline.progress(self._batches)
        self._window.update(predictions, self.arm.optimizer.guard.skipped)
        self._rows_lost += (predictions.rows == LOST).sum()
        self._rows_filled += (predictions.rows == FILL).sum()
        self.step += 1

    def _feed(self, steps: int) -> None:
        """Gives the pipeline the batches of a window, or of all windows to come."""
        if self._stream is None:
            self._stream = islice(self._reading, self.total_steps - self.step)
        self._batches = islice(self._stream, steps) if self.drains else self._stream

    def _take_counts(self) -> tuple[int, int, int, dict[str, int]]:
        """Skipped steps, lost rows and padding rows of the window, and how often each task was not finite, over all
        ranks. Collective."""
        balancing = self.arm.balancing
        skipped = self.arm.optimizer.guard.take_counts()
        counts = torch.cat([self._rows_lost[None], self._rows_filled[None], balancing.nonfinite_tasks])
        dist.all_reduce(counts, group=self._ranks.group)
        rows_lost, rows_filled, *by_task = counts.tolist()
        self._rows_lost.zero_()
        self._rows_filled.zero_()
        balancing.nonfinite_tasks.zero_()
        tasks = dict(zip(self._source.dataset.schema.task_names, by_task, strict=True))
        self.skipped_steps += skipped.count
        self.rows_lost += rows_lost
        if skipped.longest_run >= self._config.max_nonfinite_steps:
            found = ", ".join(f"{task} ({count} times, over all ranks)" for task, count in tasks.items() if count)
            raise DivergedError(
                f"arm {self._recipe.text!r}: {skipped.longest_run} steps in a row were skipped up to step {self.step},"
                f" expected less than max_nonfinite_steps={self._config.max_nonfinite_steps}; losses or gradients that"
                f" are not finite: {found or 'of no task by itself'}"
            )
        return skipped.count, rows_lost, rows_filled, tasks

    def _arrange_buckets(self) -> None:
        """Runs two backward passes without effect. Collective.

        DistributedDataParallel rearranges its buckets after the second backward pass, and the layout of the buckets
        decides the order in which gradients of three or more ranks are added. Otherwise the first steps after a restart
        would round differently from those of an uninterrupted run.
        """
        balancing = self.arm.balancing
        state = {name: value.clone() for name, value in balancing.state_dict().items()}
        nothing = Rows(self._source.dataset.schema, *self._source.padding(1)).batch(0, 1)
        self.arm.model.train()
        for _ in range(2):
            losses, _ = self.arm.model(nothing)
            losses.sum().backward()
        self.arm.optimizer.zero_grad(set_to_none=True)
        balancing.load_state_dict(state)

    def _read(self) -> Generator[MultiTaskBatch, None, None]:
        """The batches from the present position on; the pipeline takes some ahead of the step."""
        position = self.position
        while position.epoch < self._config.epochs:
            self._reader.set_position(position)
            yield from batches(self._reader, self._config.reader, self._pin_memory)
            position = Position(position.epoch + 1)

    @property
    def _pin_memory(self) -> bool:
        return self._ranks.device.type == "cuda"
