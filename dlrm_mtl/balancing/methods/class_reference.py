"""Classes of a user's own, named ``MODULE:CLASS``, such as ``my_package.my_module:MyBalancer``."""

import importlib
import os
import sys
import traceback
from typing import Any

from dlrm_mtl.balancing.methods.options import shown


class MissingModuleError(ValueError):
    """The module of a class is not on this machine."""


def import_class(reference: str, *bases: type) -> type[Any]:
    """Imports ``MODULE:CLASS``, from an installed package or the current folder.

    Args:
        bases: the class must be a subclass of one of these.

    Raises:
        MissingModuleError: there is no such module.
        ValueError: the module's code raises, the module has no such class, or the class has another base.
    """
    module_name, _, name = reference.partition(":")
    folder = os.getcwd()
    if folder not in sys.path:  # as under ``python -m``; console commands do without
        sys.path.append(folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _failed_import(module_name, error) from error
        raise MissingModuleError(
            f"{shown(reference)}: there is no module {shown(error.name)}, neither installed nor in {folder}"
        ) from error
    except (Exception, SystemExit) as error:
        raise _failed_import(module_name, error) from error
    value = getattr(module, name, None)
    if not isinstance(value, type):
        raise ValueError(f"{shown(reference)}: module {module_name} has no class {shown(name)}")
    if not issubclass(value, bases):
        expected = " or ".join(base.__name__ for base in bases)
        raise ValueError(f"{shown(reference)}: expected a subclass of {expected}")
    return value


def _failed_import(module_name: str, error: BaseException) -> ValueError:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(frame.filename)}, line {frame.lineno}"
    return ValueError(f"importing {shown(module_name)} failed at {place}: {type(error).__name__}: {shown(str(error))}")
