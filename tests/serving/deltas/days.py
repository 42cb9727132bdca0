"""A data set and a model that go on for some days, made by hand: which rows and values change is known."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict_saver import save

from data_prep.encoding.files import read_encoding, write_encoding
from data_prep.ids.assignment import write_vocabulary
from data_prep.ids.fingerprints import of_vocabulary
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.data.position import Position
from dlrm_mtl.distributed.checkpoint_directory import record_files, write_manifest
from dlrm_mtl.distributed.checkpoint_format import TensorWriter
from dlrm_mtl.distributed.saved_model import fill
from dlrm_mtl.distributed.tensor_description import read_description
from dlrm_mtl.inference.stored_model import StoredModel, open_stored_model
from dlrm_mtl.meaning import Fingerprints
from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import Schema, read_schema, write_schema
from dlrm_mtl.serving.served_model import PlainRanker
from dlrm_mtl.serving.weights import weights_of
from tests.data_prep.logs import lines_of, run_prepare, write_log
from tests.serving.raw_export import FUNNEL

ROWS = 200

STEP = 7


@dataclass(frozen=True)
class Day:
    """The data set of a day, and a checkpoint of the model that was trained until then."""

    data: Path
    checkpoint: Path

    @property
    def schema(self) -> Schema:
        return read_schema(self.data)


def first_day(directory: Path, config: ModelConfig, arm: str = "mean") -> Day:
    """With random weights."""
    data = directory / "0" / "data"
    run_prepare(write_log(directory / "log", lines_of(ROWS)), data, FUNNEL)
    return _save(data, directory / "0", StoredModel(data, {"arms": [arm]}, arm, config, False, read_schema(data)), {})


def next_day(
    before: Day,
    words: Mapping[int, str],
    rows: Mapping[str, Sequence[int]],
    tasks: tuple[Task, ...] = (),
) -> Day:
    """The day after; all dense parameters differ.

    Args:
        words: new values of the vocabulary ``word``, by position; those from its end on are appended.
        rows: that change, by table of the model.
        tasks: in place of those before.
    """
    directory = before.data.parents[1] / str(int(before.data.parent.name) + 1)
    data = directory / "data"
    schema, encoding = before.schema, read_encoding(before.data)
    files = {table: vocabulary.file for table, vocabulary in encoding.vocabularies.items()}
    vocabularies = {table: pq.read_table(before.data / file) for table, file in files.items()}
    values = dict(enumerate(vocabularies["word"]["value"].to_pylist())) | dict(words)
    vocabularies["word"] = pa.table({"value": list(values.values()), "count": list(values)})
    for table, file in files.items():
        write_vocabulary(vocabularies[table], data / file)
    word = of_vocabulary(vocabularies["word"]["value"])
    fingerprints = Fingerprints({**schema.fingerprints.tables, "word": word}, schema.fingerprints.dense)
    schema = replace(
        schema,
        categorical=tuple(
            replace(feature, cardinality=fingerprints.tables[feature.name].size) for feature in schema.categorical
        ),
        fingerprints=fingerprints,
        tasks=tasks or schema.tasks,
    )
    write_schema(schema, data)
    write_encoding(replace(encoding, fingerprints=fingerprints), data, files)
    for split in schema.splits:
        (data / split).symlink_to(before.data / split)
    return _save(data, directory, replace(open_stored_model(before.checkpoint), schema=schema.of_model), rows)


def _save(data: Path, directory: Path, before: StoredModel, rows: Mapping[str, Sequence[int]]) -> Day:
    """Writes a checkpoint whose tables differ from those before in some rows and in new ones.

    Args:
        before: with the schema of this day.
    """
    schema = read_schema(data)
    old = {
        name: torch.empty(tensor.size)
        for name, tensor in (read_description(before.path) if "step" in before.facts else {}).items()
    }
    if old:
        fill(before.path, old)
    generator = torch.Generator().manual_seed(int(directory.name))
    tensors: dict[str, Tensor] = {}
    for part in before.parts:
        for name, weight in weights_of(PlainRanker(part.schema, part.config)).items():
            values = tensors[f"{part.prefix}{name}"] = torch.randn(weight.shape, generator=generator)
            table = name.split(".")[-2]
            if old and name.startswith("embedding_bags."):
                rows_before = old[f"{part.prefix}{name}"]
                same = torch.tensor([row not in rows.get(table, ()) for row in range(len(rows_before))])
                values[: len(same)][same] = rows_before[same]
    checkpoint = directory / "checkpoints" / f"step-{STEP:08d}"
    checkpoint.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        save(tensors, storage_writer=TensorWriter(checkpoint), no_dist=True)
    files = record_files(checkpoint, sorted(path.name for path in checkpoint.iterdir()))
    facts = {
        "format": 1,
        "step": STEP,
        "files": {name: {"bytes": size, "sha256": checksum} for name, size, checksum in files},
        "arms": [before.arm],
        "tasks": list(schema.task_names),
        "world_size": 1,
        "position": Position().as_json(),
        "plan": [],
        "model": asdict(before.config),
        "bf16": False,
        "trained_on": asdict(schema.of_model),
        "meaning": schema.meaning.as_json(),
    }
    write_manifest(checkpoint, facts)
    return Day(data, checkpoint)
