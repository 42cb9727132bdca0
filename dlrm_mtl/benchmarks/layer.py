"""The balancing layer alone: its backward against plain accumulation, and against the memory bandwidth.

On a GPU also the layer's two operations on gradients, replayed from a CUDA graph without the host.
"""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.balancing.kernels.cpu_kernels import cpu_kernels
from dlrm_mtl.balancing.kernels.gpu_kernels import gpu_kernels
from dlrm_mtl.balancing.kernels.gramian import local_gramian
from dlrm_mtl.balancing.kernels.weighted_sum import combine_gradients
from dlrm_mtl.benchmarks.limits import triad
from dlrm_mtl.benchmarks.markdown import cell, markdown_table, with_interval
from dlrm_mtl.benchmarks.synthetic_cases import LayerCase
from dlrm_mtl.benchmarks.windows import Contender, Spread, compare_rates
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_directory import describe_environment


@dataclass(frozen=True)
class Point:
    """A point of the grid."""

    tasks: int
    batch_size: int
    dim: int
    dtype: str

    @property
    def elements(self) -> int:
        return self.batch_size * self.dim

    @property
    def layer_bytes(self) -> int:
        """Bytes that the layer must move: it reads M gradients for the Gramian, reads them again to combine them, and
        writes one."""
        return (2 * self.tasks + 1) * self.elements * self._itemsize

    @property
    def plain_bytes(self) -> int:
        """Bytes that accumulation moves: M - 1 additions that read two tensors and write one."""
        return 3 * (self.tasks - 1) * self.elements * self._itemsize

    @property
    def _itemsize(self) -> int:
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype.itemsize


def measure_layer(case: LayerCase) -> dict[str, Any]:
    """Seconds of one backward of the layer and of plain accumulation, at every point of the grid.

    Raises:
        ValueError: there is no such method, or it does not suit a number of tasks.
    """
    versions = check_versions()
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    grid = [Point(*values) for values in itertools.product(case.tasks, case.batch_sizes, case.dims, case.dtypes)]
    for tasks in case.tasks:
        _layer(case, tasks, device)
    memory = triad(device)
    return {
        "environment": describe_environment(versions, 1, str(device)),
        "points": [_measure(case, point, memory, device) for point in grid if point.elements <= case.max_elements],
        "left_out": [asdict(point) for point in grid if point.elements > case.max_elements],
    }


def format_layer(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table."""
    rows = []
    for point in results["points"]:
        rows.append(
            [
                f"M={point['tasks']} B={point['batch_size']:,} D={point['dim']:,} {point['dtype']}",
                cell(point["layer_seconds"], ",.0f", 1e6),
                cell(point["plain_seconds"], ",.0f", 1e6),
                f"{1e6 * point['limit_seconds']['median']:,.0f}",
                with_interval(point["layer_over_plain"]),
                with_interval(point["layer_over_limit"]),
                f"{point['bytes_per_second']['median'] / 1e9:.1f}",
                point["operations"],
            ]
        )
        if "kernel_seconds" in point:
            rows[-1] += [cell(point["kernel_seconds"], ",.0f", 1e6), with_interval(point["kernels_over_limit"])]
    header = ("backward", "layer (us)", "plain sum (us)", "limit (us)", "layer/plain", "layer/limit", "memory (GB/s)")
    on_gpu = ("kernels (us)", "kernels/limit") if any("kernel_seconds" in point for point in results["points"]) else ()
    text = markdown_table((*header, "operations", *on_gpu), rows)
    for point in results["left_out"]:
        text += f"\n\nLeft out, beyond max_elements: M={point['tasks']} B={point['batch_size']:,} D={point['dim']:,}"
        text += f" {point['dtype']}"
    return text


def _measure(case: LayerCase, point: Point, memory: Contender, device: torch.device) -> dict[str, Any]:
    generator = torch.Generator(device).manual_seed(0)
    shape, dtype = (point.batch_size, point.dim), getattr(torch, point.dtype)
    gradients = [torch.randn(shape, generator=generator, device=device).to(dtype) for _ in range(point.tasks)]
    layer = _layer(case, point.tasks, device)
    representation = torch.zeros(shape, device=device, dtype=dtype, requires_grad=True)

    def balance() -> int:
        _backward(representation, layer(representation), gradients)
        return 1

    def accumulate() -> int:
        views = tuple(representation.view_as(representation) for _ in range(point.tasks))
        _backward(representation, views, gradients)
        return 1

    contenders = {"layer": balance, "plain": accumulate, "memory": memory}
    if device.type == "cuda":
        contenders["kernels"] = _kernels(gradients)
    synchronize = torch.cuda.synchronize if device.type == "cuda" else _nothing
    rates = compare_rates(contenders, case.windows, case.seconds, synchronize)
    seconds = {name: Spread.of([1 / rate for rate in spread.windows]) for name, spread in rates.items()}
    layer_seconds, plain_seconds = seconds["layer"], seconds["plain"]
    limit = Spread.of([point.layer_bytes / rate for rate in rates["memory"].windows])
    of_kernels = {}
    if "kernels" in seconds:
        of_kernels = {
            "kernel_seconds": asdict(seconds["kernels"]),
            "kernels_over_limit": asdict(seconds["kernels"].over(limit)),
        }
    return {
        **asdict(point),
        **of_kernels,
        "operations": _operations(gradients),
        "layer_bytes": point.layer_bytes,
        "plain_bytes": point.plain_bytes,
        "bytes_per_second": asdict(rates["memory"]),
        "layer_seconds": asdict(layer_seconds),
        "plain_seconds": asdict(plain_seconds),
        "limit_seconds": asdict(limit),
        "layer_over_plain": asdict(layer_seconds.over(plain_seconds)),
        "layer_over_limit": asdict(layer_seconds.over(limit)),
    }


def _kernels(gradients: list[Tensor]) -> Contender:
    """The Gramian and the weighted sum, without the host."""
    coefficients = torch.full((len(gradients),), 1 / len(gradients), dtype=torch.float64, device=gradients[0].device)

    def work() -> None:
        local_gramian(gradients, gradients[0].device)
        combine_gradients(gradients, coefficients)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()

    def replay() -> int:
        graph.replay()
        return 1

    return replay


def _operations(gradients: list[Tensor]) -> str:
    """The layer's operations on gradients."""
    if gpu_kernels(gradients) is not None:
        return "Triton"
    return "plain" if gradients[0].is_cuda or cpu_kernels(gradients) is None else "C"


def _layer(case: LayerCase, tasks: int, device: torch.device) -> BalancingLayer:
    recipe = parse_recipe(case.method)
    return BalancingLayer(create_balancer(recipe.method, tasks, **recipe.options)).to(device)


def _backward(representation: Tensor, views: tuple[Tensor, ...], gradients: list[Tensor]) -> None:
    representation.grad = None
    torch.autograd.backward(views, gradients)


def _nothing() -> None:
    """Synchronisation for a CPU, whose calls return when their work is done."""
