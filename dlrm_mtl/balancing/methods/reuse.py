"""Reuse of coefficients: a method measures gradients in one step of every R, and its coefficients serve all R."""

from dataclasses import dataclass


@dataclass
class Reuse:
    """Which steps measure: 0, R, 2R, ... Counted on the host, since a step on a GPU must not wait for the device."""

    period: int = 1
    """R."""
    position: int = 0
    """Of the present step in its period; 0 measures."""

    def end_step(self) -> None:
        """Moves on to the next step."""
        self.position = (self.position + 1) % self.period
