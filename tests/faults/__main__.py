"""``python -m tests.faults --faults 120``: faults at random moments of runs on 1, 2 and 3 ranks, and of runs that
change between them."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.datasets import make_dataset
from tests.faults.campaign import ROWS, STRIKES, Campaign, Report


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=120, help="number of faults")
    parser.add_argument("--seed", type=int, default=0, help="of their moments")
    options = parser.parse_args()
    report, start = Report(), time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        data = make_dataset(Path(directory) / "data", rows=ROWS)
        for number, world_sizes in enumerate([[1], [2], [3], [1, 2, 3]]):
            campaign = Campaign(Path(directory), data, options.seed + number, report)
            campaign.run(world_sizes, -(-options.faults // 4), list(STRIKES))
            ranks = " or ".join(map(str, world_sizes))
            print(f"{ranks} ranks: {report.tried} faults so far, {time.monotonic() - start:.0f} s", flush=True)
        print(f"\n{report}")
    sys.exit(not report.succeeded)


if __name__ == "__main__":
    main()
