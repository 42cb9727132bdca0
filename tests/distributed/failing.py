"""A tiny job for tests of failures: ``python -m tests.distributed.failing TIMEOUT_S RANK=ACTION...``.

Every rank takes steps of one all-reduce each; in step 5, a rank with an action performs it instead.
"""

import os
import signal
import sys
import time

import torch
import torch.distributed as dist

from dlrm_mtl import cli
from dlrm_mtl.distributed.processes import Ranks, process_group

STEPS = 8


def act(action: str, ranks: Ranks) -> None:
    match action:
        case "user":
            raise ValueError("rows of day 3:\n  no such column")
        case "all":
            ranks.run_on_all(lambda: act("user", ranks))
        case "defect":
            raise KeyError("a defect")
        case "runtime":
            raise RuntimeError("no shape")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "loop":
            while True:
                time.sleep(0.1)
        case "pause":
            ranks.watch.pause()
            time.sleep(4)
        case "exit":
            raise SystemExit(143)


def main() -> None:
    timeout_s, *arguments = sys.argv[1:]
    actions = dict(argument.split("=") for argument in arguments)
    with process_group(int(timeout_s)) as ranks:
        ranks.watch.before_end(lambda text: print(f"before the end: {text}", flush=True))
        for step in range(STEPS):
            ranks.watch.progress("training", step)
            if step == 5:
                act(actions.get(str(ranks.rank), ""), ranks)
            dist.all_reduce(torch.ones(3))
        print(f"rank {ranks.rank} is done", flush=True)


if __name__ == "__main__":
    cli.run("failing", main)
