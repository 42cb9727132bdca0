"""Options of every method whose coefficients change from step to step."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, shown
from dlrm_mtl.balancing.methods.static import Static
from dlrm_mtl.balancing.methods.whole_gradients import adds_up_gradients

COMMON_OPTIONS: Mapping[str, Any] = MappingProxyType({"mix": 0.0, "fade": 0, "every": 1})
"""Names and defaults."""


def set_common_options(balancer: Balancer, name: str, options: Mapping[str, Any]) -> None:
    """Sets some of the common options.

    - ``mix``: how much of the mean is added to the method's coefficients w: (w + mix / M) / (1 + mix).
    - ``fade``: S. The coefficients turn linearly into the mean, (1 - t / S) w + (t / S) / M in step t < S, and are the
      mean from then on; 0: never.
    - ``every``: R. The coefficients of one step serve the next R - 1 steps too, which measure and reduce nothing.

    Raises:
        ValueError: a value out of range, or the method has no coefficients that change from step to step.
    """
    if options and (isinstance(balancer, Static) or not adds_up_gradients(balancer)):
        raise ValueError(
            f"balancer {name!r} has no option {next(iter(options))!r}, expected a method whose coefficients change from"
            " step to step"
        )
    mix, fade, every = (options.get(option, default) for option, default in COMMON_OPTIONS.items())
    if not (is_number(mix) and mix >= 0):
        raise ValueError(f"balancer {name!r}: mix is {shown(mix)}, expected a finite number >= 0")
    for option, value, least in (("fade", fade, 0), ("every", every, 1)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"balancer {name!r}: {option} is {shown(value)}, expected an integer >= {least}")
    balancer.mixed_with_mean = mix
    balancer.fade_steps = fade
    if every > 1:
        balancer.reuse_coefficients(every)
