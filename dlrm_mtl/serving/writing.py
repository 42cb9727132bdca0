"""Writes an export: the model's files, the encoding of its inputs, the manifest."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.data.inspection import inspect_values
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.distributed.checkpoint_directory import MANIFEST as CHECKPOINT_MANIFEST
from dlrm_mtl.export_options import ExportOptions
from dlrm_mtl.files import sha256
from dlrm_mtl.funnels import output_names
from dlrm_mtl.inference.evaluation.fitting import check_fit
from dlrm_mtl.inference.stored_model import StoredModel, open_stored_model
from dlrm_mtl.location import Location
from dlrm_mtl.meaning import Fingerprints, Meaning
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.embeddings import embedding_dims, table_owners
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import read_schema
from dlrm_mtl.serving.directories import check_place, list_files, new_directory
from dlrm_mtl.serving.encoding import copy_encoding
from dlrm_mtl.serving.evaluation import normalized_losses
from dlrm_mtl.serving.exported import fbgemm_version, processor
from dlrm_mtl.serving.exporting import check_compiler, compile_to, trace
from dlrm_mtl.serving.manifest import (
    COMPILED,
    ENCODING,
    MANIFEST,
    MODEL,
    ExportedFeature,
    ExportedTable,
    ExportedTask,
    Manifest,
    ModelTensor,
    Output,
    Quantization,
    QuantizedNe,
    Source,
    StoredTable,
    write_manifest,
)
from dlrm_mtl.serving.quantization import Int8Tables, quantize
from dlrm_mtl.serving.served_model import PlainRanker, ServedModel
from dlrm_mtl.serving.tables import FloatTables
from dlrm_mtl.serving.weights import load_served_model


def write_export(options: ExportOptions) -> Manifest:
    """Exports a model. The directory is whole or not there.

    Raises:
        ValueError: the directory exists already, or something else is where it is written; the checkpoint is missing
            or damaged; the data set does not fit it, or is needed and not there; the model cannot be exported; there
            is no compiler and one is needed.
    """
    check_place(options.out, (MANIFEST, MODEL, COMPILED, ENCODING))
    if options.compile:
        check_compiler()
    stored = open_stored_model(options.checkpoint, options.arm)
    outputs = output_names(stored.schema.tasks)
    data = _find_data(stored, options)
    source = _open_rows(data, stored) if options.precision == "int8" else None
    model = load_served_model(stored)
    quantization = _quantize(model, stored, source, list(outputs), options.batch_size) if source else None
    with new_directory(options.out) as directory:
        program = trace(model, stored.schema)
        torch.export.save(program, directory / MODEL)
        if options.compile:
            compile_to(program, directory / COMPILED)
        if data is not None:
            copy_encoding(data, directory / ENCODING)
        manifest = _describe(stored, model, outputs, options, quantization, directory)
        write_manifest(manifest, directory)
    return manifest


def _find_data(stored: StoredModel, options: ExportOptions) -> Location | None:
    """The data set, which fits the model; None if none is named, and the run's is not there."""
    data = options.data or stored.data
    notes = [stored.note] if stored.note else []
    if data is not None:
        schema = read_schema(data)
        _, notes = check_fit([stored], data, schema)
        if new_ids := stored.fit(data, schema).new_ids:
            raise ValueError(
                f"{data}: encodes table {quote(min(new_ids))} with values that {stored.path} has not learnt, expected"
                " the data set that it was trained on"
            )
    for note in notes:
        print(note, flush=True)
    return data


def _open_rows(data: Location | None, stored: StoredModel) -> RowSource:
    """The rows on which int8 is compared with float."""
    if data is None:
        raise ValueError(f"{stored.path}: the run's data set, to compare int8 with float, is not there; give --data")
    schema = read_schema(data)
    if missing := [task for task in stored.tasks if task not in schema.task_names]:
        raise ValueError(f"{data}: has no task {quote(missing[0])}, expected those of {stored.path}")
    dataset = open_dataset(data, schema=schema.of_split(schema.evaluated_split))
    inspect_values(dataset, "stop", rank=0, world_size=1)
    return RowSource(dataset)


def _quantize(
    model: ServedModel, stored: StoredModel, source: RowSource, outputs: list[str], batch_size: int
) -> Quantization:
    """Quantises the tables; NE before and after."""
    dataset = source.dataset
    before = normalized_losses(model, stored.schema, source, batch_size)
    quantize(model)
    after = normalized_losses(model, stored.schema, source, batch_size)
    ne = {name: QuantizedNe(*each) for name, *each in zip(outputs, before, after, strict=True)}
    return Quantization(str(dataset.directory), dataset.schema.rows(dataset.schema.evaluated_split), ne)


def _describe(
    stored: StoredModel,
    model: ServedModel,
    outputs: Mapping[str, tuple[int, ...]],
    options: ExportOptions,
    quantization: Quantization | None,
    directory: Path,
) -> Manifest:
    schema, config = stored.schema, stored.config
    dims = embedding_dims(schema, config)
    copies = sum(1 + len(table_owners(part.schema, part.config)) for part in stored.parts)
    meaning = Meaning.from_json(stored.facts["meaning"], str(stored.path)) if "meaning" in stored.facts else None
    versions = {"dlrm-mtl": version("dlrm-mtl"), "torch": str(torch.__version__)}
    if quantization is not None:
        versions["fbgemm_gpu"] = fbgemm_version()
    return Manifest(
        precision=options.precision,
        features=tuple(ExportedFeature(feature.name, feature.table_name) for feature in schema.categorical),
        dense=schema.dense,
        tables={
            name: ExportedTable(features[0].cardinality, dims[features[0].name], copies)
            for name, features in schema.tables.items()
        },
        stored=_stored_tables(model),
        fingerprints=Fingerprints(meaning.tables, meaning.dense) if meaning else Fingerprints(),
        tasks=tuple(ExportedTask(task.name, task.label, task.given, task.through) for task in schema.tasks),
        relation=config.relation,
        inputs=(
            ModelTensor("dense", "float32", (None, len(schema.dense))),
            ModelTensor("values", "int64", (None,)),
            ModelTensor("lengths", "int64", (len(schema.categorical), None)),
        ),
        output=ModelTensor("probabilities", "float32", (None, len(outputs))),
        outputs=tuple(_output(name, [schema.tasks[task] for task in chain]) for name, chain in outputs.items()),
        source=Source(
            str(stored.path), sha256(stored.path / CHECKPOINT_MANIFEST), stored.arm, stored.step, stored.bf16
        ),
        versions=versions,
        files=list_files(directory),
        processor=processor() if options.compile else None,
        quantization=quantization,
    )


def _output(name: str, tasks: Sequence[Task]) -> Output:
    return Output(name, tuple(task.name for task in tasks), tasks[0].kind, tasks[0].unit)


def _stored_tables(model: ServedModel) -> dict[str, StoredTable]:
    stored: dict[str, StoredTable] = {}
    for number, ranker in enumerate(model.rankers):
        assert isinstance(ranker, PlainRanker)
        assert isinstance(ranker.tables, FloatTables | Int8Tables)
        prefix = f"{number}/" if len(model.rankers) > 1 else ""
        for name, table in ranker.tables.stored(f"rankers.{number}.tables").items():
            stored[f"{prefix}{name}"] = table
    return stored
