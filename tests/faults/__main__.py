"""``python -m tests.faults --faults 120``: faults at random moments of runs on 1, 2 and 3 ranks, and of runs that
change their number of ranks."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.datasets import make_dataset
from tests.faults.campaign import READER_STRIKES, ROWS, STRIKES, Campaign, Report
from tests.faults.endings import cases, run_case


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=120, help="number of faults")
    parser.add_argument("--endings", action=argparse.BooleanOptionalAction, default=True, help="run every ending, too")
    parser.add_argument("--seed", type=int, default=0, help="of their moments")
    options = parser.parse_args()
    report, start = Report(), time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        data = make_dataset(Path(directory) / "data", rows=ROWS)
        for number, world_sizes in enumerate([[1], [2], [3], [1, 2, 3]]):
            campaign = Campaign(Path(directory), data, options.seed + number, report, readers=1)
            campaign.run(world_sizes, -(-options.faults // 4), [*STRIKES, *READER_STRIKES])
            ranks = " or ".join(map(str, world_sizes))
            print(f"{ranks} ranks: {report.tried} faults so far, {time.monotonic() - start:.0f} s", flush=True)
        print(f"\n{report}")
        faults = run_endings(Path(directory)) if options.endings else []
    sys.exit(bool(faults) or not report.succeeded)


def run_endings(directory: Path) -> list[str]:
    """Tests runs that end early; returns what is wrong."""
    data = make_dataset(directory / "endings-data", rows=ROWS)
    faults: list[str] = []
    for number, (launcher, readers, name) in enumerate(cases()):
        start = time.monotonic()
        wrong = run_case(directory / f"ending-{number}", data, launcher, readers, name)
        outcome = "FAILED" if wrong else "as it should be"
        print(f"{launcher}, {readers} readers, {name}: {outcome}, {time.monotonic() - start:.0f} s", flush=True)
        faults += wrong
    print("\n".join([f"ends that are not as they should be: {len(faults)}", *faults]))
    return faults


if __name__ == "__main__":
    main()
