"""The functions that measure and format each case."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from dlrm_mtl.benchmarks.architectures import format_architectures, measure_architectures
from dlrm_mtl.benchmarks.cases import (
    ArchitecturesCase,
    CheckpointCase,
    LoopCase,
    MethodsCase,
    OverheadCase,
    ProfileCase,
    ReaderCase,
    ServingCase,
    Turns,
)
from dlrm_mtl.benchmarks.checkpoint import format_checkpoint, measure_checkpoint
from dlrm_mtl.benchmarks.growth.growth import format_growth, measure_growth
from dlrm_mtl.benchmarks.growth.page import growth_page
from dlrm_mtl.benchmarks.layer import format_layer, measure_layer
from dlrm_mtl.benchmarks.loops.loop import format_loop, measure_loop
from dlrm_mtl.benchmarks.methods import format_methods, measure_methods
from dlrm_mtl.benchmarks.overhead import format_overhead, measure_overhead
from dlrm_mtl.benchmarks.peers.experts import format_experts, measure_experts
from dlrm_mtl.benchmarks.peers.peers import format_peers, measure_peers
from dlrm_mtl.benchmarks.profile import format_profile, measure_profile
from dlrm_mtl.benchmarks.reader import format_reader, measure_reader
from dlrm_mtl.benchmarks.serving import format_serving, measure_serving
from dlrm_mtl.benchmarks.synthetic_cases import ExpertsCase, GrowthCase, LayerCase, PeersCase, WatchCase
from dlrm_mtl.benchmarks.watch import format_watch, measure_watch

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """The functions of a case."""

    measure: Callable[[Any], Results]
    format: Callable[[Results], str]
    """Formats results as a table."""
    page: Callable[[Results], str] | None = None
    """Formats results as an HTML page of figures."""


BENCHMARKS: Mapping[type[Turns], Benchmark] = MappingProxyType(
    {
        ReaderCase: Benchmark(measure_reader, format_reader),
        CheckpointCase: Benchmark(measure_checkpoint, format_checkpoint),
        MethodsCase: Benchmark(measure_methods, format_methods),
        ArchitecturesCase: Benchmark(measure_architectures, format_architectures),
        LoopCase: Benchmark(measure_loop, format_loop),
        ProfileCase: Benchmark(measure_profile, format_profile),
        OverheadCase: Benchmark(measure_overhead, format_overhead),
        ServingCase: Benchmark(measure_serving, format_serving),
        LayerCase: Benchmark(measure_layer, format_layer),
        PeersCase: Benchmark(measure_peers, format_peers),
        ExpertsCase: Benchmark(measure_experts, format_experts),
        WatchCase: Benchmark(measure_watch, format_watch),
        GrowthCase: Benchmark(measure_growth, format_growth, growth_page),
    }
)
