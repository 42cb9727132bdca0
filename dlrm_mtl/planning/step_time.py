"""The step time of a plan on each rank, by torchrec's cost model."""

from dataclasses import dataclass

from torchrec.distributed.planner.types import Perf

from dlrm_mtl.distributed.planner import TablePlan

PARTS = {
    "fwd_compute": "forward compute",
    "fwd_comms": "forward comms",
    "bwd_compute": "backward compute",
    "bwd_comms": "backward comms",
    "prefetch_compute": "prefetch",
}
"""The parts of torchrec's total, by the names of its Perf. Its input_dist_comms is not one of them."""


@dataclass(frozen=True)
class StepTime:
    """Milliseconds, by rank."""

    ranks: tuple[Perf, ...]

    @property
    def totals(self) -> list[float]:
        return [perf.total for perf in self.ranks]

    @property
    def slowest(self) -> int:
        """The rank that the others wait for: its total is the planner's rating of the plan."""
        return max(range(len(self.ranks)), key=lambda rank: self.ranks[rank].total)


def step_time(plan: TablePlan) -> StepTime:
    """The sums over each rank's shards."""
    ranks = [Perf(0.0, 0.0, 0.0, 0.0) for _ in range(plan.topology.world_size)]
    for option in plan.options:
        for shard in option.shards:
            ranks[shard.rank] += shard.perf
    return StepTime(tuple(ranks))
