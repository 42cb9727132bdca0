"""A real Slurm of two nodes on this machine, with accounting, for the duration of the tests."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

from dlrm_mtl.srun import FIRST_PORT, PORTS, PORTS_OF_A_JOB
from tests.waiting import free_ports

HERE = Path(__file__).parent
SBIN = "/usr/sbin:/sbin"
PROGRAMS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacct", "unshare", "setpriv")
START_S = 120
"""Seconds; it takes 5."""
GPUS = 8
"""Number of GPUs that each node declares."""
JOBS = 100
"""Number of job ids of a cluster, more than it uses."""

# As root or, where user namespaces are on, as anyone.
NAMESPACES = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
if os.getuid() != 0:
    NAMESPACES += ["--user", "--map-current-user", "--keep-caps"]


def missing() -> str:
    """Why Slurm cannot run here; empty if it can."""
    path = f"{os.environ['PATH']}:{SBIN}"
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        return f"no {', '.join(absent)}: tests/slurm/install.sh, as root, installs Slurm"
    attempt = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True)
    return f"no namespaces of its own: {attempt.stderr.strip()}" if attempt.returncode else ""


@contextmanager
def cluster(state: Path) -> Iterator[None]:
    """Starts Slurm, sets SLURM_CONF, and ends all its processes and jobs, even if this process is killed.

    Args:
        state: a new directory for all its files, with a short name, since it holds sockets.
    """
    with job_numbers() as first_job:
        _write_files(state, first_job)
        with _daemons(state):
            yield


@contextmanager
def job_numbers() -> Iterator[int]:
    """The first of :data:`JOBS` job ids that no other cluster of this machine uses: the port of a job's ranks follows
    from its id.

    A block of ports is reserved by its first port, which no job uses.
    """
    block = PORTS_OF_A_JOB * JOBS
    with socket.socket() as held:
        for port in range(FIRST_PORT, FIRST_PORT + PORTS, block):
            try:
                held.bind(("127.0.0.1", port))
            except OSError:
                continue
            yield (port - FIRST_PORT) // PORTS_OF_A_JOB + 1
            return
    raise RuntimeError(f"every {block}th port from {FIRST_PORT} to {FIRST_PORT + PORTS} is in use")


@contextmanager
def _daemons(state: Path) -> Iterator[None]:
    with (state / "daemons.out").open("w") as output:
        daemons = subprocess.Popen(
            # The signal comes when this process ends, however that happens.
            ["setpriv", "--pdeathsig", "KILL", *NAMESPACES, HERE / "daemons.sh", state],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(state / "slurm.conf")
    try:
        end = time.monotonic() + START_S
        while not (state / "up").exists():
            if daemons.poll() is not None or time.monotonic() > end:
                said = (f"{log.name}: {log.read_text()[-2000:]}" for log in sorted(state.glob("*.out")))
                raise RuntimeError("Slurm did not start:\n" + "\n".join(said))
            time.sleep(0.05)
        yield
    finally:
        daemons.kill()
        daemons.wait()
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before


def _write_files(state: Path, first_job: int) -> None:
    (state / "controller").mkdir(parents=True)
    for node in ("n1", "n2"):
        (state / node).mkdir()
    names = ("controller_port", "accounting_port", "n1_port", "n2_port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    values = {"state": state, "user": getpass.getuser(), "first_job": first_job, **ports}
    for name in ("slurm.conf", "slurmdbd.conf", "gres.conf"):
        (state / name).write_text(Template((HERE / name).read_text()).substitute(values))
        (state / name).chmod(0o600)
    for gpu in range(GPUS):
        (state / f"gpu{gpu}").symlink_to("/dev/null")
    (state / "hosts").write_text(f"127.0.0.1 localhost n1 n2\n{Path('/etc/hosts').read_text()}")
    key = state / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    subprocess.run(
        [
            *("mariadb-install-db", "--no-defaults", f"--user={getpass.getuser()}", f"--datadir={state / 'database'}"),
            *("--skip-test-db", "--auth-root-authentication-method=normal"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    with cluster(directory):
        print(f"export SLURM_CONF={directory / 'slurm.conf'}", flush=True)
        sys.stdin.read()
