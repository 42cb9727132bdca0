"""Errors in a command line of ``torchx run``."""

from torchx.specs.finder import ComponentValidationException


class RefusedLaunchError(ComponentValidationException, ValueError):
    """An error in a command line. ``torchx run`` shows it without a traceback, and ends."""
