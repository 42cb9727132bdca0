"""Writes an export: the model's files, the encoding of its inputs, the manifest."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import torch

from data_prep.encoding.files import FILE as ENCODING_FILE
from dlrm_mtl.config import require
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.data.inspection import inspect_values
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.distributed.checkpoint_directory import MANIFEST as CHECKPOINT_MANIFEST
from dlrm_mtl.distributed.checkpoint_directory import ListedFile, record_files
from dlrm_mtl.export_options import ExportOptions
from dlrm_mtl.files import is_leftover, publish, read_object, sha256, synchronize
from dlrm_mtl.funnels import output_names
from dlrm_mtl.inference.evaluation.fitting import check_fit
from dlrm_mtl.inference.stored_model import StoredModel, open_stored_model
from dlrm_mtl.meaning import Fingerprints, Meaning
from dlrm_mtl.models.embeddings import embedding_dims, table_owners
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import read_schema
from dlrm_mtl.serving.evaluation import normalized_entropies
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
    write_manifest,
)
from dlrm_mtl.serving.quantization import quantize
from dlrm_mtl.serving.served_model import ServedModel
from dlrm_mtl.serving.weights import load_served_model


def write_export(options: ExportOptions) -> Manifest:
    """Exports a model. The directory is whole or not there.

    Raises:
        ValueError: the directory exists already, or something else is where it is written; the checkpoint is missing
            or damaged; the data set does not fit it, or is needed and not there; the model cannot be exported; there
            is no compiler and one is needed.
    """
    _check_place(options.out)
    if options.compile:
        check_compiler()
    stored = open_stored_model(options.checkpoint, options.arm)
    outputs = output_names(stored.schema.tasks)
    data = _find_data(stored, options)
    source = _open_rows(data, stored) if options.precision == "int8" else None
    model = load_served_model(stored)
    quantization = _quantize(model, stored, source, list(outputs), options.batch_size) if source else None
    with _new_directory(options.out) as directory:
        program = trace(model, stored.schema)
        torch.export.save(program, directory / MODEL)
        if options.compile:
            compile_to(program, directory / COMPILED)
        if data is not None:
            _copy_encoding(data, directory / ENCODING)
        manifest = _describe(stored, outputs, options, quantization, directory)
        write_manifest(manifest, directory)
    return manifest


def _find_data(stored: StoredModel, options: ExportOptions) -> Path | None:
    """The data set, which fits the model; None if none is named, and the run's is not there."""
    data = options.data or stored.data
    notes = [stored.note] if stored.note else []
    if data is not None:
        _, notes = check_fit([stored], data, read_schema(data))
    for note in notes:
        print(note, flush=True)
    return data


def _open_rows(data: Path | None, stored: StoredModel) -> RowSource:
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
    before = normalized_entropies(model, stored.schema, source, batch_size)
    quantize(model)
    after = normalized_entropies(model, stored.schema, source, batch_size)
    ne = {name: QuantizedNe(*each) for name, *each in zip(outputs, before, after, strict=True)}
    return Quantization(str(dataset.directory), dataset.schema.rows(dataset.schema.evaluated_split), ne)


def _check_place(out: Path) -> None:
    """Raises ValueError where the export, or the directory in which it is written, would replace something else."""
    require("out", str(out), not out.exists(), "a directory that does not exist yet")
    partial = _partial(out)
    for entry in partial.iterdir() if partial.exists() else ():
        if entry.name not in (MANIFEST, MODEL, COMPILED, ENCODING) and not is_leftover(entry):
            raise ValueError(f"{entry}: is no file of an export; give another --out")


@contextmanager
def _new_directory(path: Path) -> Iterator[Path]:
    """A directory that gets its name when the block ends without an error. What a killed export left is replaced."""
    partial = _partial(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in partial.rglob("*"):
            synchronize(file)
        publish(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def _copy_encoding(data: Path, directory: Path) -> None:
    """Copies what encodes raw rows, where the data set has it: ``encoding.json`` and the vocabularies that it names."""
    if not (data / ENCODING_FILE).is_file():
        return
    encoding = read_object(data / ENCODING_FILE)
    names = [ENCODING_FILE, *(vocabulary["file"] for vocabulary in encoding.get("vocabularies", {}).values())]
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{data / ENCODING_FILE}: file {quote(name)} lies outside of the data set")
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / name, directory / name)


def _describe(
    stored: StoredModel,
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
    files = [str(file.relative_to(directory)) for file in sorted(directory.rglob("*")) if file.is_file()]
    return Manifest(
        precision=options.precision,
        features=tuple(ExportedFeature(feature.name, feature.table_name) for feature in schema.categorical),
        dense=schema.dense,
        tables={
            name: ExportedTable(features[0].cardinality, dims[features[0].name], copies)
            for name, features in schema.tables.items()
        },
        fingerprints=Fingerprints(meaning.tables, meaning.dense) if meaning else Fingerprints(),
        tasks=tuple(ExportedTask(task.name, task.label, task.given, task.through) for task in schema.tasks),
        relation=config.relation,
        inputs=(
            ModelTensor("dense", "float32", (None, len(schema.dense))),
            ModelTensor("values", "int64", (None,)),
            ModelTensor("lengths", "int64", (len(schema.categorical), None)),
        ),
        output=ModelTensor("probabilities", "float32", (None, len(outputs))),
        outputs=tuple(
            Output(name, tuple(schema.tasks[task].name for task in chain)) for name, chain in outputs.items()
        ),
        source=Source(
            str(stored.path), sha256(stored.path / CHECKPOINT_MANIFEST), stored.arm, stored.step, stored.bf16
        ),
        versions=versions,
        files={name: ListedFile(size, checksum) for name, size, checksum in record_files(directory, files)},
        processor=processor() if options.compile else None,
        quantization=quantization,
    )
