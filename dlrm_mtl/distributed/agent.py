"""torchrun's agent, which starts a node's workers, with the exit codes of this project."""

import os
import signal
from collections.abc import Sequence
from typing import Any

from torch.distributed import run
from torch.distributed.elastic.agent.server.api import DEFAULT_ROLE
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import record
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.launcher import api

from dlrm_mtl.ending import FAILED, REFUSED, SAVE_TIME, complain

SAVE_S = 120
"""Seconds between SIGTERM and SIGKILL of the workers, unless ``--shutdown_timeout`` is given."""


@record
def run_workers(arguments: Sequence[str]) -> int:
    """Runs torchrun with these arguments.

    Returns:
        exit code: 2 after an error that the user must fix, which a worker has shown; 128 and the number of a signal
        that ended this process; 1 if the nodes did not meet.

    Raises:
        ChildFailedError: workers failed otherwise, and no restart is left.
    """
    # Otherwise torch 2.13 keeps one store over the restarts, in which new workers find the addresses of dead ones.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    # launch_agent has no parameter for it.
    api.LocalElasticAgent = _Agent  # type: ignore[attr-defined]
    options = run.parse_args(arguments)
    if options.shutdown_timeout is None:
        options.shutdown_timeout = SAVE_S
    os.environ[SAVE_TIME] = str(options.shutdown_timeout)
    try:
        run.run(options)
    except _WorkerRefusedError:
        return REFUSED
    except SignalException as stop:
        return 128 + int(stop.sigval)
    except RendezvousError as error:
        limits = f" ({options.rdzv_conf})" if options.rdzv_conf else ""
        where = f"{options.nnodes} nodes did not meet at {options.rdzv_endpoint}{limits}"
        complain(f"torchrun: {where}: {type(error).__name__}: {error}")
        return FAILED
    return 0


class _WorkerRefusedError(Exception):
    """A worker has ended because of an error that the user must fix, and has shown it."""


class _Agent(LocalElasticAgent):
    """Does not restart workers after an error that a restart cannot cure."""

    def run(self, role: str = DEFAULT_ROLE) -> Any:
        try:
            return super().run(role)
        except SignalException:
            # A scheduler ends the other nodes when the first one has ended.
            if self._pcontext is not None:
                self._monitor_workers(self._worker_group)
            raise

    def _monitor_workers(self, worker_group: Any) -> Any:
        result = super()._monitor_workers(worker_group)
        if any(failure.exitcode == REFUSED for failure in result.failures.values()):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise _WorkerRefusedError
        return result

    def _stop_workers(self, worker_group: Any) -> None:
        # torch gives workers 30 s here, whatever --shutdown_timeout is.
        self._shutdown(timeout=self._shutdown_timeout)
