"""Balancing methods by name. A new method is one file and one line here."""

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.cagrad import CAGrad
from dlrm_mtl.balancing.methods.db_mtl import DBMTL
from dlrm_mtl.balancing.methods.graddrop import GradDrop
from dlrm_mtl.balancing.methods.gradvac import GradVac
from dlrm_mtl.balancing.methods.imtl_g import IMTLG
from dlrm_mtl.balancing.methods.loss_weighting import LOSS_WEIGHTINGS
from dlrm_mtl.balancing.methods.mgda import MGDA
from dlrm_mtl.balancing.methods.moco import MoCo
from dlrm_mtl.balancing.methods.multibalance import MultiBalance
from dlrm_mtl.balancing.methods.nash_mtl import NashMTL
from dlrm_mtl.balancing.methods.options import shown
from dlrm_mtl.balancing.methods.pcgrad import PCGrad
from dlrm_mtl.balancing.methods.recommended import MultiBalanceRecommended
from dlrm_mtl.balancing.methods.sdmgrad import SDMGrad
from dlrm_mtl.balancing.methods.static import Mean, Static, Sum

METHODS: Mapping[str, type[Balancer]] = MappingProxyType(
    {
        "mean": Mean,
        "sum": Sum,
        "static": Static,
        "multibalance": MultiBalance,
        "multibalance_recommended": MultiBalanceRecommended,
        "mgda": MGDA,
        "sdmgrad": SDMGrad,
        "moco": MoCo,
        "imtl_g": IMTLG,
        "pcgrad": PCGrad,
        "gradvac": GradVac,
        "graddrop": GradDrop,
        "db_mtl": DBMTL,
        "cagrad": CAGrad,
        "nash_mtl": NashMTL,
    }
)


TORCHJD = "torchjd:"
"""Prefix of TorchJD's weightings."""


def available_balancers() -> tuple[str, ...]:
    """Names that :func:`create_balancer` takes, beside ``torchjd:NAME`` and combinations."""
    return (*METHODS, *LOSS_WEIGHTINGS)


def balancer_options(name: str) -> dict[str, Any]:
    """Options of a method and their defaults.

    Raises:
        ValueError: no such method; the message lists them.
    """
    if name in LOSS_WEIGHTINGS:
        return {}
    if name not in METHODS:
        known = ", ".join(available_balancers())
        raise ValueError(f"unknown balancer {shown(name)}, expected one of {known} or {TORCHJD}NAME")
    parameters = inspect.signature(METHODS[name].__init__).parameters
    return {
        key: parameter.default
        for key, parameter in parameters.items()
        if key not in ("self", "num_tasks", "task_names")
    }


def create_balancer(name: str, num_tasks: int, *, task_names: Sequence[str] | None = None, **options: Any) -> Balancer:
    """Creates a balancing method by name.

    Args:
        name: one of :func:`available_balancers`; ``torchjd:NAME`` for a Gramian-based weighting of TorchJD; or
            ``LOSS_WEIGHTING+METHOD``, such as ``imtl_l+imtl_g`` (IMTL), for both at once. A loss weighting alone goes
            with the mean of the gradients.
        num_tasks: M.
        task_names: names under which the state of each task is stored.
        options: of the gradient method; see its class.

    Raises:
        ValueError: unknown name or option (the message lists the right ones), or a value out of range.
    """
    first, plus, second = name.partition("+")
    if first in LOSS_WEIGHTINGS:
        balancer = create_balancer(second if plus else "mean", num_tasks, task_names=task_names, **options)
        if balancer.loss_weighting is not None:
            raise ValueError(
                f"{shown(name)} weighs the losses twice, expected one loss weighting and one gradient method"
            )
        balancer.loss_weighting = LOSS_WEIGHTINGS[first](balancer.task_names)
        return balancer
    if name.startswith(TORCHJD):
        # A large package that the other methods do without.
        from dlrm_mtl.balancing.methods.torchjd import TorchJD

        return TorchJD(num_tasks, name.removeprefix(TORCHJD), task_names=task_names, **options)
    known = balancer_options(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        expected = ", ".join(f"{key}={value!r}" for key, value in known.items()) or "none"
        raise ValueError(f"balancer {name!r} has no option {shown(unknown[0])}; its options and defaults: {expected}")
    return METHODS[name](num_tasks, task_names=task_names, **options)
