"""What balancing adds to a step on many GPUs: bytes, and a simulation of ranks that wait for each other.

A step of torchrec's pipeline: lookups; all-to-all of pooled embeddings; dense forward; heads' backward; balancing;
backward of interaction and bottom MLP; all-to-all of the embeddings' gradients; table update. DDP reduces the heads'
gradients as they come, on the same communicator. The all-to-all of the next batch's ids hides behind the dense part.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlrm_mtl.studies.interconnect import Interconnect
from dlrm_mtl.studies.scale_case import ScaleCase

MODES = ("exact", "exact, own group", "delayed", "local")
"""``reduction`` of the layer. ``own group``: a process group of its own, so that the small all-reduce does not queue
behind DDP's buckets."""

BUCKET = 25 * 2**20
"""DDP's default bucket size in bytes."""


@dataclass(frozen=True)
class Traffic:
    """Bytes that a GPU sends, or holds in an all-reduce, per step."""

    ids: float
    """All-to-all of table ids, int32."""
    embeddings: float
    """All-to-all of pooled embeddings, float32; the same again for their gradients."""
    dense: float
    """All-reduce of dense gradients, float32."""
    balancing: float
    """All-reduce of the Gramian, float64."""


def traffic(case: ScaleCase) -> Traffic:
    """The traffic of a step, which does not depend on the number of GPUs except for the part that stays on the GPU."""
    return Traffic(
        ids=4.0 * case.batch_per_gpu * case.lookups,
        embeddings=4.0 * case.batch_per_gpu * case.embedding_columns,
        dense=4.0 * (case.shared_parameters + case.tasks * case.head_parameters),
        balancing=8.0 * case.tasks**2,
    )


@dataclass(frozen=True)
class Phases:
    """Mean compute times of a rank, in seconds."""

    lookup: float
    forward: float
    heads_backward: float
    shared_backward: float
    update: float
    balancing: float
    """Time of the layer beyond the plain accumulation that it replaces, including kernel launches."""


def phases(case: ScaleCase) -> Phases:
    """Compute times from FLOPs (2 per parameter and row forward, 4 backward), bytes of table rows, and bytes of M
    representation gradients: read for the Gramian and again for the combination, which is written, against M - 1
    additions in place."""
    flops = 2.0 * case.batch_per_gpu / (1e12 * case.compute_tflops)
    heads = case.tasks * case.head_parameters
    gradient = 4.0 * case.batch_per_gpu * case.representation / (1e9 * case.memory_gb_s)
    rows = 4.0 * case.batch_per_gpu * case.lookups * case.embedding_dim / (1e9 * case.memory_gb_s)
    return Phases(
        lookup=rows,
        forward=flops * (case.shared_parameters + heads),
        heads_backward=2 * flops * heads,
        shared_backward=2 * flops * case.shared_parameters,
        update=2 * rows,  # read and written
        balancing=gradient * ((2 * case.tasks + 1) - 3 * (case.tasks - 1)) + 1e-6 * case.launch_us,
    )


def measure_scale(case: ScaleCase) -> dict[str, Any]:
    """Bytes per step, and for each number of GPUs the step time and what each mode adds to it."""
    clusters = []
    for gpus in case.gpus:
        links = Interconnect(case, gpus)
        base = simulate(links, None)
        clusters.append(
            {
                "gpus": gpus,
                "small_all_reduce_us": 1e6 * links.all_reduce(traffic(case).balancing),
                "step_ms": 1e3 * base,
                "added_us": {mode: 1e6 * (simulate(links, mode) - base) for mode in MODES},
            }
        )
    options = {key: value for key, value in asdict(case).items() if key != "json"}
    return {"case": options, "traffic": asdict(traffic(case)), "phases": asdict(phases(case)), "clusters": clusters}


def simulate(links: Interconnect, mode: str | None) -> float:
    """Mean seconds per step; ``mode`` None is the control."""
    case, sizes, mean = links.case, traffic(links.case), phases(links.case)
    draw = _jitter(case, links.gpus)
    exchange = links.all_to_all(sizes.embeddings)
    small = links.all_reduce(sizes.balancing)
    heads, shared = 4.0 * case.tasks * case.head_parameters, 4.0 * case.shared_parameters
    last_bucket = heads % BUCKET
    now = np.zeros(links.gpus)
    for _ in range(case.steps):
        now += draw(mean.lookup)
        now = np.full(links.gpus, now.max() + exchange)
        now += draw(mean.forward)
        backward = draw(mean.heads_backward)
        # Full buckets are reduced during the heads' backward; the rest waits for the shared part's backward.
        begun = now.max() + mean.heads_backward * min(1.0, BUCKET / max(heads, 1.0))
        now += backward
        busy = max(begun, now.max()) if heads < BUCKET else begun + links.all_reduce(heads - last_bucket)
        if mode is not None:
            now += mean.balancing
        if mode in ("exact", "exact, own group"):
            ready = now.max() if mode == "exact, own group" else max(now.max(), busy)
            now = np.full(links.gpus, ready + small)
        now += draw(mean.shared_backward)
        reduced = max(busy, now.max()) + links.all_reduce(shared + last_bucket)
        now = np.full(links.gpus, now.max() + exchange)
        now += draw(mean.update)
        now = np.maximum(now, reduced)
    return float(now.max()) / case.steps


def _jitter(case: ScaleCase, gpus: int) -> Callable[[float], NDArray[np.float64]]:
    """Draws each rank's time of a phase; the same draws for every mode."""
    generator = np.random.default_rng(case.seed)
    sigma = np.sqrt(np.log1p(case.jitter**2))
    return lambda seconds: seconds * generator.lognormal(-(sigma**2) / 2, sigma, gpus)
