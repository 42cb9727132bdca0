"""The findings as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from dlrm_mtl.benchmarks.markdown import markdown_table

TITLES = {
    "covers": "What should be true in 95 % of cases or more",
    "errs": "What should be said in 5 % of cases or fewer, since it is wrong",
    "shows": "For comparison",
}
"""Heading of each kind of findings."""
COVERED, WRONG = 0.93, 0.05
"""A finding is off if its bound is violated at the level of one in a thousand."""


def format_findings(findings: Sequence[Mapping[str, Any]]) -> str:
    """A table for each kind of findings."""
    parts = []
    for kind, title in TITLES.items():
        rows = [
            [
                finding["scenario"],
                finding["claim"],
                f"{100 * finding['true'] / finding['of']:.1f}",
                f"{finding['of']:,}",
            ]
            for finding in findings
            if finding["kind"] == kind
        ]
        if rows:
            parts.append(f"{title}:\n\n{markdown_table(('world', 'what is said', 'of cases (%)', 'cases'), rows)}")
    return "\n\n".join(parts)


def is_off(finding: Mapping[str, Any]) -> bool:
    """Whether a share violates its bound by more than the simulation's chance."""
    true, of = finding["true"], finding["of"]
    if finding["kind"] == "covers":
        return bool(stats.binom.cdf(true, of, COVERED) < 0.001)
    return bool(finding["kind"] == "errs" and stats.binom.sf(true - 1, of, WRONG) < 0.001)
