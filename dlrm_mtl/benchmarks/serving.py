"""Predictions by a trained model: its modules in PyTorch, and its exports."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dlrm_mtl.benchmarks.cases import ServingCase
from dlrm_mtl.benchmarks.markdown import INTERVAL, cell, markdown_table, with_interval
from dlrm_mtl.benchmarks.windows import Spread, take_turns
from dlrm_mtl.config import require
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.data.reader import EvaluationReader
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.distributed.quiet import silence_known_warnings
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.export_options import ExportOptions, Precision
from dlrm_mtl.inference.stored_model import StoredModel, open_stored_model
from dlrm_mtl.run_directory import describe_environment
from dlrm_mtl.serving.exported import open_export
from dlrm_mtl.serving.exporting import check_compiler
from dlrm_mtl.serving.manifest import COMPILED, MODEL
from dlrm_mtl.serving.served_model import model_inputs
from dlrm_mtl.serving.weights import load_served_model
from dlrm_mtl.serving.writing import write_export
from dlrm_mtl.units import mib

EAGER, COMPILED_INT8 = "eager", "int8, compiled"
LINEAR = "linear layers alone"
"""The part of eager that an export shares: what remains if all else takes no time."""
PRECISIONS: tuple[Precision, ...] = ("float", "int8")
WANTED, WANTED_ROWS = 2.0, 512
"""The claim: in batches of so many rows, the compiled model with int8 tables gives this multiple of eager's rows per
second."""
BATCHES_IN_MEMORY = 32
"""Number of batches in memory, which the calls use repeatedly."""

Inputs = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class ServedForm:
    """A form in which the model is served."""

    model: Callable[[Tensor, Tensor, Tensor], Tensor]
    bytes: int
    """Of its file; eager: of its weights."""


def measure_serving(case: ServingCase) -> dict[str, Any]:
    """Rows per second, their ratio to eager's, and latencies of each form, by batch size.

    Raises:
        ValueError: the model cannot be exported, the data set does not fit it or has too few rows, or there is more
            than one thread.
    """
    silence_known_warnings()
    versions = check_versions()
    threads = torch.get_num_threads()
    require("OMP_NUM_THREADS", threads, threads == 1, "1: the benchmark is of one core")
    stored = open_stored_model(case.checkpoint, case.arm)
    batches = {rows: _read(case.data, rows) for rows in case.batch_sizes}
    reason = _reason_not_to_compile()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        forms = dict(_forms(case, stored, Path(directory), compiled=reason is None))
        measured = {str(rows): _compare(case, forms, rows, inputs) for rows, inputs in batches.items()}
    return {
        "environment": describe_environment(versions, 1, "cpu"),
        "bytes": {name: form.bytes for name, form in forms.items()},
        "batches": measured,
        "not_compiled": reason,
        "wanted": WANTED,
    }


def format_serving(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table, with what was not compiled and why, or whether the claim holds."""
    rows = [
        [
            f"{name}, {size} row{'s' * (size != '1')}",
            f"{mib(results['bytes'][name]):,.1f}",
            cell(measured["rows_per_second"], ",.0f"),
            with_interval(measured["over_eager"]),
            *(f"{measured['latency_ms'][percentile]:.3f}" for percentile in ("p50", "p90", "p99")),
        ]
        for size, forms in results["batches"].items()
        for name, measured in forms.items()
    ]
    header = ("model and batch", "MiB", "rows/s", f"rows/s over eager, {INTERVAL}", "P50 (ms)", "P90", "P99")
    lines = [markdown_table(header, rows)]
    if results["not_compiled"] is not None:
        lines.append(f"Not compiled: {results['not_compiled']}.")
    wanted = results["batches"].get(str(WANTED_ROWS), {}).get(COMPILED_INT8)
    if wanted is not None:
        lines.append(
            f"Compiled with int8 tables, in batches of {WANTED_ROWS} rows: {with_interval(wanted['over_eager'])} times"
            f" eager's rows per second; wanted: {results['wanted']:g}."
        )
    return "\n\n".join(lines)


def _read(data: Path, rows: int) -> list[Inputs]:
    """Some batches of the eval split."""
    dataset = open_dataset(data)
    available = dataset.schema.rows("eval")
    require("batch_sizes", rows, rows <= available, f"at most {available:,}, the eval rows of {data}")
    reader = EvaluationReader(RowSource(dataset), rows, rank=0, world_size=1)
    return [model_inputs(batch) for batch in islice(reader, min(BATCHES_IN_MEMORY, available // rows))]


def _reason_not_to_compile() -> str | None:
    try:
        check_compiler()
    except ValueError as error:
        return str(error)
    return None


def _forms(case: ServingCase, stored: StoredModel, directory: Path, compiled: bool) -> Iterator[tuple[str, ServedForm]]:
    model = load_served_model(stored)
    yield EAGER, ServedForm(model, _count_bytes(model))
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    yield LINEAR, ServedForm(partial(_compute_alone, layers), sum(_count_bytes(layer) for layer in layers))
    for precision in PRECISIONS:
        out = directory / precision
        write_export(ExportOptions(case.checkpoint, out, case.arm, case.data, precision, compiled))
        yield f"{precision}, exported", ServedForm(open_export(out, False).model, (out / MODEL).stat().st_size)
        if compiled:
            size = (out / COMPILED).stat().st_size
            yield f"{precision}, compiled", ServedForm(open_export(out, True).model, size)


def _count_bytes(module: nn.Module) -> int:
    return sum(value.nbytes for value in module.state_dict().values())


def _compute_alone(layers: Sequence[nn.Linear], dense: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    """Layers on rows of zeros, as many as in a batch."""
    for layer in layers:
        output: Tensor = layer(dense.new_zeros(len(dense), layer.in_features))
    return output


def _compare(
    case: ServingCase, forms: Mapping[str, ServedForm], rows: int, inputs: list[Inputs]
) -> dict[str, dict[str, Any]]:
    windows = {name: partial(_window, form, inputs, case.seconds) for name, form in forms.items()}
    seconds = take_turns(windows, case.windows)
    rates = {
        name: Spread.of([rows * len(window) / sum(window) for window in windows]) for name, windows in seconds.items()
    }
    return {
        name: {
            "rows_per_second": asdict(rate),
            "over_eager": asdict(rate.over(rates[EAGER])),
            "latency_ms": _percentiles(1000 * np.concatenate(seconds[name])),
        }
        for name, rate in rates.items()
    }


@torch.no_grad()
def _window(form: ServedForm, inputs: list[Inputs], length: float) -> list[float]:
    """Seconds of each call."""
    calls: list[float] = []
    end = time.perf_counter() + length
    for batch in cycle(inputs):
        start = time.perf_counter()
        if start >= end and calls:
            break
        form.model(*batch)
        calls.append(time.perf_counter() - start)
    return calls


def _percentiles(values: Any) -> dict[str, float]:
    return {f"p{percent}": float(np.percentile(values, percent)) for percent in (50, 90, 99)}
