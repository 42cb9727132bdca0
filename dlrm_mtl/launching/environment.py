"""Environment of the processes of a job."""

import re

from dlrm_mtl.quoting import MAX_LENGTH, quote

_NEXT = re.compile(r"[,;](?=[A-Za-z_]\w*=)")
"""Between two variables. Commas without NAME= behind them, and further =, belong to values."""

SECRET = re.compile(r"(^|_)(TOKEN|PASSWORD|SECRET|API_KEY|ACCESS_KEY)$", re.IGNORECASE)
"""Names of variables whose values are secrets."""

CPU_THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
"""One thread per rank: more threads than free cores make a step several times slower."""

CPU_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
"""Makes glibc keep freed memory. By default it returns large blocks to the system and allocates them again, page by
page, in every step. The price: a process's memory stays at its peak."""


def parse_variables(text: str) -> dict[str, str]:
    """The variables of ``A=1,B=2``. Values may hold commas and =, as NCCL's lists do: ``NCCL_IB_HCA==mlx5_0,mlx5_1``.

    Raises:
        ValueError: a part that does not begin with NAME=.
    """
    variables = {}
    for part in filter(None, _NEXT.split(text)):
        name, equals, value = part.partition("=")
        if not (equals and re.fullmatch(r"[A-Za-z_]\w*", name)):
            # The value may be a secret.
            raise ValueError(f"env has {quote(name, MAX_LENGTH)}, expected NAME=VALUE,NAME=VALUE")
        variables[name] = "" if value in ("''", '""') else value
    return variables
