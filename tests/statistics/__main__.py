"""``python -m tests.statistics``: simulates comparisons of arms of known truth, and counts how often intervals contain
it and verdicts are wrong. The exit code is 1 if a rate is beyond its bound."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dlrm_mtl.files import read_json, write_json
from tests.statistics.campaign import Finding, simulate
from tests.statistics.scenarios import SCENARIOS
from tests.statistics.table import format_findings, is_off


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.statistics", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help="worlds whose names hold one of these")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the comparisons of every world")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for the findings; those of other worlds in it stay")
    options = parser.parse_args()
    names = [name for name in SCENARIOS if not options.only or any(part in name for part in options.only)]
    if not names:
        parser.error(f"no world's name holds {' or '.join(map(repr, options.only))}")
    findings: list[dict[str, Any]] = []
    start = time.perf_counter()
    for name, of_world in zip(names, simulate(names, options.fraction, options.processes, options.seed), strict=True):
        findings += [asdict(finding) for finding in of_world]
        print(f"{time.perf_counter() - start:8.0f} s  {name}", file=sys.stderr, flush=True)
        if options.json is not None:
            _write(options.json, of_world, options.seed)
    print(format_findings(findings))
    off = [finding for finding in findings if is_off(finding)]
    for finding in off:
        print(f"off: {finding['scenario']}: {finding['claim']}", flush=True)
    sys.exit(bool(off))


def _write(path: Path, of_world: Sequence[Finding], seed: int) -> None:
    """Replaces the file's findings of this world."""
    kept = read_json(path)["findings"] if path.is_file() else []
    kept = [finding for finding in kept if finding["scenario"] != of_world[0].scenario]
    order = list(SCENARIOS)
    findings = sorted([*kept, *map(asdict, of_world)], key=lambda finding: order.index(finding["scenario"]))
    write_json(path, {"seed": seed, "findings": findings})


if __name__ == "__main__":
    main()
