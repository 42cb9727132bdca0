"""Balancing methods by name. A new method is one file and one line here."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.class_reference import import_class
from dlrm_mtl.balancing.methods.common_options import COMMON_OPTIONS, set_common_options
from dlrm_mtl.balancing.methods.loss_weighting import LossWeighting
from dlrm_mtl.balancing.methods.options import shown

_HERE = "dlrm_mtl.balancing.methods"

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "mean": f"{_HERE}.static:Mean",
        "sum": f"{_HERE}.static:Sum",
        "static": f"{_HERE}.static:Static",
        "multibalance": f"{_HERE}.multibalance:MultiBalance",
        "multibalance_recommended": f"{_HERE}.recommended:MultiBalanceRecommended",
        "mgda": f"{_HERE}.mgda:MGDA",
        "sdmgrad": f"{_HERE}.sdmgrad:SDMGrad",
        "moco": f"{_HERE}.moco:MoCo",
        "imtl_g": f"{_HERE}.imtl_g:IMTLG",
        "pcgrad": f"{_HERE}.pcgrad:PCGrad",
        "gradvac": f"{_HERE}.gradvac:GradVac",
        "graddrop": f"{_HERE}.graddrop:GradDrop",
        "db_mtl": f"{_HERE}.db_mtl:DBMTL",
        "cagrad": f"{_HERE}.cagrad:CAGrad",
        "nash_mtl": f"{_HERE}.nash_mtl:NashMTL",
        "config": f"{_HERE}.config:ConFIG",
        "gradcraft": f"{_HERE}.gradcraft:GradCraft",
        "pe_ltr": f"{_HERE}.pe_ltr:PELTR",
        "metabalance": f"{_HERE}.metabalance:MetaBalance",
        "mtadam": f"{_HERE}.mtadam:MTAdam",
        "dwa": f"{_HERE}.dwa:DWA",
        "famo": f"{_HERE}.famo:FAMO",
        "stch": f"{_HERE}.stch:STCH",
    }
)
"""Subclasses of :class:`Balancer`, as ``MODULE:CLASS``."""

LOSS_WEIGHTINGS: Mapping[str, str] = MappingProxyType(
    {
        "uncertainty": f"{_HERE}.uncertainty:Uncertainty",
        "liebel": f"{_HERE}.liebel:RevisedUncertainty",
        "imtl_l": f"{_HERE}.imtl_l:IMTLL",
    }
)
"""Subclasses of :class:`LossWeighting`, as ``MODULE:CLASS``."""

TORCHJD = "torchjd:"
"""Prefix of TorchJD's weightings."""


def available_balancers() -> tuple[str, ...]:
    """Names that :func:`create_balancer` takes, besides ``MODULE:CLASS``, ``torchjd:NAME`` and combinations."""
    return (*METHODS, *LOSS_WEIGHTINGS)


def balancer_options(name: str) -> dict[str, Any]:
    """Options of a method and their defaults; ``inspect.Parameter.empty`` for an option that must be given.

    Raises:
        ValueError: no such method; the message lists them.
    """
    kind = method_class(name)
    if issubclass(kind, LossWeighting):
        return {}
    _, *parameters = inspect.signature(kind).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {each.name: each.default for each in parameters if each.kind in named and each.name != "task_names"}


def method_class(name: str) -> type[Balancer] | type[LossWeighting]:
    """The class of a method or loss weighting.

    Args:
        name: one of :func:`available_balancers`, or ``MODULE:CLASS``.

    Raises:
        ValueError: no such name, module or class, or a class that is neither.
    """
    reference = METHODS.get(name) or LOSS_WEIGHTINGS.get(name) or name
    if ":" not in reference:
        names = ", ".join(available_balancers())
        raise ValueError(f"unknown balancer {shown(name)}, expected one of {names}, {TORCHJD}NAME or MODULE:CLASS")
    return import_class(reference, Balancer, LossWeighting)


def create_balancer(name: str, num_tasks: int, *, task_names: Sequence[str] | None = None, **options: Any) -> Balancer:
    """Creates a balancing method by name.

    Args:
        name: one of :func:`available_balancers`; ``MODULE:CLASS`` for a class of your own, from an installed package or
            the current folder; ``torchjd:NAME`` for a Gramian-based weighting of TorchJD; or
            ``LOSS_WEIGHTING+METHOD``, such as ``imtl_l+imtl_g`` (IMTL), for both at once. A loss weighting alone goes
            with the mean of the gradients.
        num_tasks: M.
        task_names: names under which the state of each task is stored.
        options: of the gradient method; see its class. For every method whose coefficients change from step to step
            also ``mix`` and ``every``; see :func:`common_options.set_common_options`.

    Raises:
        ValueError: unknown name or option (the message lists the right ones), a value out of range, or a class of your
            own that cannot be imported.
    """
    if name.startswith(TORCHJD):
        if find_spec("torchjd") is None:
            raise ValueError(f'{shown(name)} needs TorchJD: pip install "dlrm-mtl[torchjd]"')
        # A large package that the other methods do without.
        from dlrm_mtl.balancing.methods.torchjd import TorchJD

        common = _take_common(options)
        balancer: Balancer = TorchJD(num_tasks, name.removeprefix(TORCHJD), task_names=task_names, **options)
        set_common_options(balancer, name, common)
        return balancer
    first, plus, second = name.partition("+")
    kind = method_class(first)
    if issubclass(kind, LossWeighting):
        balancer = create_balancer(second if plus else "mean", num_tasks, task_names=task_names, **options)
        if balancer.loss_weighting is not None:
            raise ValueError(
                f"{shown(name)} weighs the losses twice, expected one loss weighting and one gradient method"
            )
        balancer.loss_weighting = kind(balancer.task_names)
        return balancer
    if plus:
        raise ValueError(f"{shown(name)}: expected a loss weighting before the '+', such as imtl_l+imtl_g")
    common = _take_common(options, balancer_options(name))
    _check_options(kind, name, options)
    balancer = kind(num_tasks, task_names=task_names, **options)
    set_common_options(balancer, name, common)
    return balancer


def _take_common(options: dict[str, Any], own: Collection[str] = ()) -> dict[str, Any]:
    """Removes the common options, except those that a method has itself."""
    return {name: options.pop(name) for name in COMMON_OPTIONS if name in options and name not in own}


def _check_options(kind: type[Balancer], name: str, options: Mapping[str, Any]) -> None:
    """Raises a ValueError unless the class takes these options."""
    defaults = balancer_options(name)
    expected = ", ".join(
        key if value is inspect.Parameter.empty else f"{key}={value!r}" for key, value in defaults.items()
    )
    expected = f"its options and defaults: {expected or 'none'}"
    signature = inspect.signature(kind)
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.parameters.values())
    unknown = sorted(set(options) - set(defaults))
    if unknown and not takes_any:
        raise ValueError(f"balancer {name!r} has no option {shown(unknown[0])}; {expected}")
    try:
        signature.bind(1, task_names=None, **options)
    except TypeError as error:
        raise ValueError(f"balancer {name!r}: (num_tasks, task_names=...): {error}; {expected}") from None
