"""``python -m tests.faults --faults 120``: faults at random moments on 1, 2 and 3 ranks."""

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
        for world_size in (1, 2, 3):
            Campaign(Path(directory), data, options.seed + world_size, report).run(
                world_size, -(-options.faults // 3), list(STRIKES)
            )
            print(f"{world_size} ranks: {report.tried} faults so far, {time.monotonic() - start:.0f} s", flush=True)
        print(f"\n{report}")
    sys.exit(not report.succeeded)


if __name__ == "__main__":
    main()
