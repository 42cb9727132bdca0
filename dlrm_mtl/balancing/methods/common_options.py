"""Options of every method whose coefficients change from step to step."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, shown
from dlrm_mtl.balancing.methods.static import Static
from dlrm_mtl.balancing.methods.whole_gradients import adds_up_gradients

COMMON_OPTIONS: Mapping[str, Any] = MappingProxyType({"mix": 0.0, "every": 1})
"""Names and defaults."""


def set_common_options(balancer: Balancer, name: str, options: Mapping[str, Any]) -> None:
    """Sets some of the common options.

    - ``mix``: how much of the mean is added to the method's coefficients w: (w + mix / M) / (1 + mix).
    - ``every``: R. The coefficients of one step serve the next R - 1 steps too, which measure and reduce nothing.

    Raises:
        ValueError: a value out of range, or the method has no coefficients that change from step to step.
    """
    if options and (isinstance(balancer, Static) or not adds_up_gradients(balancer)):
        raise ValueError(
            f"balancer {name!r} has no option {next(iter(options))!r}, expected a method whose coefficients change from"
            " step to step"
        )
    mix, every = options.get("mix", 0.0), options.get("every", 1)
    if not (is_number(mix) and mix >= 0):
        raise ValueError(f"balancer {name!r}: mix is {shown(mix)}, expected a finite number >= 0")
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise ValueError(f"balancer {name!r}: every is {shown(every)}, expected an integer >= 1")
    balancer.mixed_with_mean = mix
    if every > 1:
        balancer.reuse_coefficients(every)
