"""The simulated worlds, and the claims tested in each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from tests.statistics import claims
from tests.statistics.claims import Claim
from tests.statistics.world import World


@dataclass(frozen=True)
class Scenario:
    """Comparisons that are drawn from one world."""

    world: World
    comparisons: int = 200
    covers: Mapping[str, Claim] = field(default_factory=dict)
    """Claims that must be true in 95 % of cases."""
    errs: Mapping[str, Claim] = field(default_factory=dict)
    """Wrong claims, allowed in at most 5 % of cases."""
    shows: Mapping[str, Claim] = field(default_factory=dict)
    """Counted for comparison: how often right claims are made, and rates without the method."""
    other_seeds: int = 0
    """Number of seeds that give the truth on the drawn rows."""

    def claims(self) -> Iterator[tuple[str, str, Claim]]:
        """Kind, name and test of each claim."""
        for kind in ("covers", "errs", "shows"):
            for name, test in getattr(self, kind).items():
                yield kind, name, test


NEW, ROWS, MODELS = "new traffic", "these rows, other seeds", "these models, other rows"
NAIVE = "the interval over seeds, if taken for new traffic"
METRICS = {
    "relative_ne": "relative NE",
    "auc": "AUC",
    "auprc": "AUPRC",
    "recalibrated_ne": "NE after recalibration",
}
FREQUENT = World(rows=2000, seeds=3, rates=(0.3,), gains=(0.5,))
RARE = replace(FREQUENT, rates=(0.025,))
"""50 positives."""
USERS = World(rows=4000, seeds=3, rates=(0.3,), rows_per_user=10, user_error=1.0)
MANY = World(rows=2000, seeds=3, rates=(0.3, 0.2, 0.1, 0.05, 0.025), gains=(0.0,) * 5, arms=16)
PRECISE = World(rows=30_000, seeds=3, rates=(0.3,) * 2, gains=(0.0,) * 2, common=0.03, seed_noise=0.03)
"""Models similar enough that a difference of 0.05 can be shown."""


def _gains(world: World, comparisons: int = 200, other_seeds: int = 0) -> Scenario:
    """Every interval of an NE gain."""
    covers = {NEW: claims.new_traffic("ne"), MODELS: claims.these_models()}
    covers |= {ROWS: claims.these_rows()} if other_seeds else {}
    return Scenario(world, comparisons, covers, shows={NAIVE: claims.seeds_for_new_traffic()}, other_seeds=other_seeds)


def _metrics(world: World) -> Scenario:
    covers = {f"gain in {name}": claims.new_traffic(metric) for metric, name in METRICS.items()}
    return Scenario(world, 200, {**covers, "calibration of each model": claims.calibration()})


def _users(world: World) -> Scenario:
    """Equal arms, for which the truth of user metrics is known."""
    covers = {f"gain in {name}": claims.new_traffic(name.lower()) for name in ("NE", "GAUC", "uAUC", "AUC")}
    return Scenario(world, 200, {**covers, MODELS: claims.these_models()})


def _without_users(world: World) -> Scenario:
    shows = {f"{MODELS}, rows taken as independent": claims.these_models()}
    return Scenario(replace(world, clustered=False), 200, shows=shows)


def _many(world: World) -> Scenario:
    """Arms that are all as good as the control."""
    errs = {
        "a gain or loss of any arm on any task": claims.any_verdict("gain", "loss"),
        "a gain or loss of any arm on average": claims.any_average_verdict("gain", "loss"),
    }
    covers = {"intervals beside 0 in the range for chance": claims.within_chance}
    shows = {"an interval above 0 of any arm on any task": claims.any_interval_above_zero}
    return Scenario(world, 60, covers, errs, shows)


def _loser(seeds: int, gain: float) -> Scenario:
    """An arm that loses on its second task."""
    world = replace(PRECISE, seeds=seeds, gains=(0.0, gain))
    errs = {"no task loses 0.05": claims.loses_nothing}
    return Scenario(world, 80, errs={**errs, "equivalent, of that task": claims.verdict("equivalent", task=1)})


def _equal(seeds: int) -> Scenario:
    right = {"no task loses 0.05": claims.loses_nothing, "equivalent": claims.verdict("equivalent")}
    wrong = {"a gain or loss of the arm on any task": claims.any_verdict("gain", "loss")}
    return Scenario(replace(PRECISE, seeds=seeds), 80, errs=wrong, shows=right)


def _speed(seeds: int, windows: int) -> Scenario:
    """With one seed only the variation of its windows is covered."""
    noise = (0.0 if seeds == 1 else 1.0, 2.0)
    world = replace(FREQUENT, rows=100, seeds=seeds, windows=windows, qps_change=-3.0, qps_noise=noise)
    return Scenario(world, 300, {"change of QPS": claims.qps})


SCENARIOS: dict[str, Scenario] = {
    **{f"600 positives, 2,000 rows, {n} seeds": _gains(replace(FREQUENT, seeds=n), 200, 50) for n in (2, 3, 5)},
    **{f"50 positives, 2,000 rows, {n} seeds": _gains(replace(RARE, seeds=n)) for n in (2, 3, 5, 10, 20)},
    "9,000 positives, 30,000 rows, 3 seeds": _gains(replace(FREQUENT, rows=30_000), 100),
    "50 positives, 30,000 rows, 3 seeds": _gains(replace(FREQUENT, rows=30_000, rates=(50 / 30_000,)), 100),
    **{f"{rows} rows a user, 4,000 rows, 3 seeds": _users(replace(USERS, rows_per_user=rows)) for rows in (10, 40)},
    **{f"{rows} rows a user, not clustered": _without_users(replace(USERS, rows_per_user=rows)) for rows in (10, 40)},
    "metrics, 600 positives, 2,000 rows, 3 seeds": _metrics(FREQUENT),
    "metrics, 50 positives, 2,000 rows, 3 seeds": _metrics(RARE),
    "average over tasks, 3 seeds": Scenario(
        replace(FREQUENT, rates=(0.3, 0.1, 0.025), gains=(0.5, 0.2, -0.3)), 200, {NEW: claims.average}
    ),
    "4 segments of 2,000 rows, 3 seeds": Scenario(replace(FREQUENT, segments=4), 100, {NEW: claims.segments}),
    **{f"QPS, {n} seeds, 8 windows": _speed(n, 8) for n in (2, 3, 5)},
    **{f"QPS, 1 seed, {n} windows": _speed(1, n) for n in (6, 30)},
    **{f"16 arms, 5 tasks, no effect, {n} seeds": _many(replace(MANY, seeds=n)) for n in (2, 3, 5)},
    **{f"2 tasks, one loses {-gain:.2f}, {n} seeds": _loser(n, gain) for gain in (-0.05, -0.1) for n in (2, 3, 5)},
    **{f"2 tasks, no effect, {n} seeds": _equal(n) for n in (2, 3, 5)},
}
