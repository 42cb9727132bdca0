"""``python -m tests.fuzz --inputs 10000``: changed inputs of every kind that a user hands over, each of which must be
answered within seconds: accepted and right, or refused in one line."""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.campaign import Report, input_of, run
from tests.fuzz.target import outcome_of
from tests.fuzz.targets.catalog import TARGETS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="inputs of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--show", type=int, help="number of one input, of one target: its bytes and what becomes of it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if options.show is not None:
            target = TARGETS[options.targets[0]](Path(directory))
            data = input_of(target, options.seed, options.show)
            sys.stdout.buffer.write(data + b"\n")
            print(outcome_of(target, data))
            return
        print(f"{'target':10} {'refused':>8} {'accepted':>8} {'faults':>6} {'seconds':>8}")
        reports = [_run(name, options, Path(directory)) for name in options.targets]
    sys.exit(any(report.faults for report in reports))


def _run(name: str, options: argparse.Namespace, directory: Path) -> Report:
    start = time.monotonic()
    shares = [range(first, options.inputs, options.processes) for first in range(options.processes)]
    report = Report(name)
    with ThreadPoolExecutor(options.processes) as pool:
        for share in pool.map(lambda numbers: run(name, TARGETS[name], options.seed, numbers, directory), shares):
            report.outcomes += share.outcomes
            report.faults |= share.faults
    first, *faults = str(report).split("\n")
    print("\n".join([f"{first} {time.monotonic() - start:8.0f}", *faults]), flush=True)
    return report


if __name__ == "__main__":
    main()
