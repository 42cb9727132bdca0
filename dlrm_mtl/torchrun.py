"""Starts a job's processes on a node: ``python -m dlrm_mtl.torchrun --nproc_per_node 2 -m dlrm_mtl.train --data DIR``.

The options are those of torchrun. A process that dies is restarted as by torchrun; an error that the user must fix ends
the job at once, with exit code 2.
"""

import sys

from dlrm_mtl.extras import TRAINING, end_unless_installed


def main() -> None:
    end_unless_installed("torchrun", TRAINING)
    from dlrm_mtl.distributed.agent import run_workers

    sys.exit(run_workers(sys.argv[1:]))


if __name__ == "__main__":
    main()
