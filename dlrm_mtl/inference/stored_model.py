"""What a checkpoint holds: an arm's model, its configuration, and what it was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dlrm_mtl.arms import SINGLE_TASK
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.distributed.checkpoint_directory import MANIFEST, list_checkpoints, read_manifest
from dlrm_mtl.distributed.saved_model import position_of
from dlrm_mtl.files import read_object
from dlrm_mtl.location import Location, parse_location
from dlrm_mtl.model_schema import ModelSchema
from dlrm_mtl.quoting import quote
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.records import MayHoldMore, build
from dlrm_mtl.reporting.streams.day_file import DAY_FILE
from dlrm_mtl.reporting.streams.stream_file import DAYS
from dlrm_mtl.schema import Schema, read_schema
from dlrm_mtl.training.checkpoints import DIRECTORY, has_checkpoint
from dlrm_mtl.training.state.checkpoint_facts import check_facts
from dlrm_mtl.training.state.init_from import DataFit, check_meaning, fit_data


@dataclass(frozen=True)
class StoredPart:
    """A model of some tasks, by itself."""

    prefix: str
    """Of the names of its parameters in the checkpoint."""
    config: ModelConfig
    schema: ModelSchema


@dataclass(frozen=True)
class StoredModel:
    """The model of one arm in a checkpoint."""

    path: Path
    """The checkpoint."""
    facts: Mapping[str, Any]
    """Its manifest."""
    arm: str
    config: ModelConfig
    bf16: bool
    """Whether the dense part runs under bfloat16 autocast."""
    schema: ModelSchema
    """What it was trained on; the meaning of its inputs is in the manifest."""
    note: str = ""
    """A line for the user: which arm was taken, where none was asked for. Empty: there was no choice."""

    @property
    def step(self) -> int:
        return int(self.facts["step"])

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.schema.task_names

    @property
    def parts(self) -> tuple[StoredPart, ...]:
        """One model for all tasks, or one per task."""
        position = position_of(self.arm, self.path, self.facts)
        if parse_recipe(self.arm).method != SINGLE_TASK:
            return (StoredPart(f"{position}/model/", self.config, self.schema),)
        config = replace(self.config, relation="independent")
        return tuple(
            StoredPart(f"{position}-{number}/model/", config, replace(self.schema, tasks=(task,)))
            for number, task in enumerate(self.schema.tasks)
        )

    @property
    def data(self) -> Location | None:
        """Data set of the run, if the checkpoint is in the run's directory and the data set is there."""
        config = _read_config(self.path)
        if config is None:
            return None
        data = parse_location(config.data)
        return data if (data / "schema.json").is_file() else None

    def fit(self, data: Location, schema: Schema) -> DataFit:
        """Compares the meaning of ids and dense values with that in a data set, which may continue the model's.

        Args:
            data: directory of the data set, for messages.

        Raises:
            ValueError: they differ.
        """
        return fit_data(self.path, self.facts, [(data, schema)], "{remedy}")


def open_stored_model(path: Path, arm: str | None = None) -> StoredModel:
    """The model of an arm in a checkpoint, by its manifest; the weights are not read.

    Args:
        path: a checkpoint, RUN/checkpoints/step-N or RUN/seed-S/checkpoints/step-N; or RUN or RUN/seed-S, whose newest
            checkpoint is taken, of a stream that of its newest day.
        arm: as it was given to the run; by default the first, which is the control of a comparison.

    Raises:
        ValueError: there is no checkpoint, or one for each of several seeds; the manifest is damaged; there is no such
            arm; or what the model was trained on is recorded neither in the manifest nor in the run's directory.
    """
    path = find_checkpoint_in(path)
    facts = read_manifest(path)
    check_facts(path, facts)
    arms = facts["arms"]
    note = ""
    if arm is None:
        arm = arms[0]
        if len(arms) > 1:
            note = f"{path}: arm {quote(arm)}, the control; its arms: {', '.join(arms)}"
    position_of(arm, path, facts)
    recorded = _recorded(path, facts) or _of_run(path, facts)
    return StoredModel(path, facts, arm, recorded.model, recorded.bf16, recorded.trained_on, note)


def find_checkpoint_in(path: Path) -> Path:
    """A checkpoint, or the newest one of a run or seed; of a stream, that of its newest day.

    Raises:
        ValueError: there is none, or each of several seeds has one.
    """
    if (path / MANIFEST).exists():
        return path
    days = [file.parent for file in sorted((path / DAYS).glob(f"*/{DAY_FILE}"))]
    if trained := [day for day in days if any(map(has_checkpoint, day.glob("seed-*")))]:
        return find_checkpoint_in(trained[-1])
    for directory in (path / DIRECTORY, path):
        if newest := list_checkpoints(directory)[:1]:
            return newest[0]
    seeds = [seed for seed in sorted(path.glob("seed-*")) if has_checkpoint(seed)]
    if len(seeds) > 1:
        raise ValueError(f"{path}: holds models of {len(seeds)} seeds, expected one, such as {seeds[0]}")
    if seeds:
        return list_checkpoints(seeds[0] / DIRECTORY)[0]
    hint = "; compare keeps its models with --keep-models True" if any(path.glob("seed-*")) else ""
    raise ValueError(f"{path}: no checkpoint, expected RUN or RUN/{DIRECTORY}/step-N{hint}")


@dataclass(frozen=True)
class _Recorded(MayHoldMore):
    """What a manifest says of the model."""

    model: ModelConfig
    bf16: bool
    trained_on: ModelSchema


def _recorded(path: Path, facts: Mapping[str, Any]) -> _Recorded | None:
    """None in a checkpoint of an earlier version."""
    if "trained_on" not in facts:
        return None
    try:
        recorded = build(_Recorded, facts, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    _require_tasks(recorded.trained_on, facts, f"{path}: trained_on")
    return recorded


@dataclass(frozen=True)
class _RunConfig(MayHoldMore):
    """The part of a run's config.json that its models need."""

    data: str
    model: ModelConfig
    bf16: bool = False


def _of_run(path: Path, facts: Mapping[str, Any]) -> _Recorded:
    """The same for a checkpoint of an earlier version, from the run's configuration and data set."""
    config = _read_config(path)
    if config is None:
        raise ValueError(
            f"{path}: an earlier version wrote this checkpoint; expected it in its run's directory, whose config.json"
            " says what the model is"
        )
    data = parse_location(config.data)
    schema = read_schema(data)
    check_meaning(path, facts, data, schema, "expected the data set that the run was trained on")
    _require_tasks(schema, facts, f"{data / 'schema.json'}")
    return _Recorded(config.model, config.bf16, schema.of_model)


def _read_config(path: Path) -> _RunConfig | None:
    """Of the run of a checkpoint; None if the checkpoint is in no run's directory."""
    files = [directory / "config.json" for directory in path.absolute().parents[1:3]]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return None
    try:
        return build(_RunConfig, read_object(file), "")
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _require_tasks(schema: ModelSchema, facts: Mapping[str, Any], where: str) -> None:
    if list(schema.task_names) != facts["tasks"]:
        raise ValueError(f"{where}: tasks {quote(list(schema.task_names))}, expected {quote(facts['tasks'])}")
