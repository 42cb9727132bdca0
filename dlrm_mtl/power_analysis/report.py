"""The power analysis as plain data, and as a table."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dlrm_mtl.columns import align
from dlrm_mtl.power_analysis.assumed import assume_noise
from dlrm_mtl.power_analysis.measured import measure_noise
from dlrm_mtl.power_analysis.options import PowerOptions
from dlrm_mtl.power_analysis.source import GainNoise
from dlrm_mtl.schema import read_schema
from dlrm_mtl.statistics.effect import LEVEL, POWER
from dlrm_mtl.statistics.power import Noise, fewest_rows, rows_needed, seeds_needed

IMPOSSIBLE = "none"
UNKNOWN = "?"


def analyse_power(options: PowerOptions) -> dict[str, Any]:
    """The output of ``--json``. ``detectable`` is the gain that the planned seeds find on new traffic. A number of
    seeds or a multiple of the rows is None if none suffices; values for new traffic are None if ``rows_known`` is
    false.

    Raises:
        ValueError: see :func:`measure_noise` and :func:`assume_noise`; there is no data set.
    """
    if options.run is not None:
        source = measure_noise(options, options.run)
    else:
        source = assume_noise(read_schema(options.data or Path()), options)
    return {
        "source": source.heading,
        "notes": list(source.notes),
        "effect": options.effect,
        "power": POWER,
        "level": LEVEL,
        "seeds": source.seeds,
        "gains": [{**asdict(gain), **_needs(gain, options.effect, source.seeds)} for gain in source.gains],
    }


def _needs(gain: GainNoise, effect: float, seeds: int) -> dict[str, Any]:
    noise = gain.noise
    on_these_rows = Noise(noise.over_seeds)
    return {
        "detectable_on_these_rows": on_these_rows.effect(seeds).detectable(),
        "seeds_needed_on_these_rows": seeds_needed(on_these_rows, effect),
        "detectable": noise.effect(seeds).detectable() if gain.rows_known else None,
        "seeds_needed": seeds_needed(noise, effect) if gain.rows_known else None,
        "rows_times_needed": rows_needed(noise, effect, seeds) if gain.rows_known else None,
        "rows_times_with_endless_seeds": fewest_rows(noise, effect) if gain.rows_known else None,
    }


def format_power(report: Mapping[str, Any]) -> str:
    """A table per arm, with what its columns mean and what was assumed."""
    seeds, gains = report["seeds"], report["gains"]
    header = [
        *("rows", "positives", "over seeds", "over rows", "detectable", "seeds, these rows", "seeds, new traffic"),
        *(f"rows, {seeds} seeds", "rows at least"),
    ]
    tables = [
        align([[arm or "any arm", *header], *(_row(gain) for gain in gains if gain["arm"] == arm)])
        for arm in dict.fromkeys(gain["arm"] for gain in gains)
    ]
    legend = [
        "over seeds: standard deviation of the gain (%) over seeds, on these rows",
        "over rows: standard deviation over samples of rows, of the part shared by all seeds",
        f"detectable: smallest true gain (%) that is found on new traffic with {seeds} seeds and these rows",
        "seeds, these rows: needed for a verdict that holds for other seeds on these rows",
        f"seeds, new traffic: needed for one that also holds on other rows; {IMPOSSIBLE}: too few rows for any number"
        " of seeds",
        f"rows, {seeds} seeds: needed for a verdict on new traffic, and as a multiple of these rows; {IMPOSSIBLE}: the"
        " spread over seeds is too large",
        "rows at least: with fewer rows no number of seeds suffices",
    ]
    heading = (
        f"{report['source']}.\nTo find: an NE gain of {report['effect']:g} %, by a {report['level']:.0%} interval that"
        f" excludes 0, with a probability of {report['power']:.0%}."
    )
    return "\n\n".join([heading, *report["notes"], *tables, "\n".join(legend)])


def _row(gain: Mapping[str, Any]) -> list[str]:
    noise, rows_known = Noise(**gain["noise"]), gain["rows_known"]
    times = (gain["rows_times_needed"], gain["rows_times_with_endless_seeds"])
    return [
        gain["task"] or "average",
        UNKNOWN if gain["rows"] is None else f"{gain['rows']:,}",
        "" if gain["positives"] is None else f"{gain['positives']:,}",
        f"{noise.over_seeds:.3f}",
        *([f"{noise.shared_rows:.3f}", f"{gain['detectable']:.3f}"] if rows_known else [UNKNOWN, UNKNOWN]),
        _count(gain["seeds_needed_on_these_rows"]),
        _count(gain["seeds_needed"]) if rows_known else UNKNOWN,
        *(_rows(factor, gain["rows"]) if rows_known else UNKNOWN for factor in times),
    ]


def _count(number: int | None) -> str:
    return IMPOSSIBLE if number is None else f"{number:,}"


def _rows(times: float | None, rows: int) -> str:
    return IMPOSSIBLE if times is None else f"{math.ceil(times * rows):,} ({times:,.{1 if times < 10 else 0}f}x)"
