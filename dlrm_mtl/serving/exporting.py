"""From a model to the files that PyTorch loads."""

import warnings
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import torch
from torch._dynamo.exc import UserError
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from dlrm_mtl.model_schema import ModelSchema
from dlrm_mtl.serving.served_model import ServedModel

TRACED_ROWS = 5
"""Rows of the batch with which the model is traced; any number from 2 gives the same."""


def trace(model: ServedModel, schema: ModelSchema) -> ExportedProgram:
    """The model's graph, for any number of rows and ids.

    Raises:
        ValueError: a class of the user's cannot be traced.
    """
    features = len(schema.categorical)
    inputs = (
        torch.zeros(TRACED_ROWS, len(schema.dense)),
        torch.zeros(features * TRACED_ROWS, dtype=torch.int64),
        torch.ones(features, TRACED_ROWS, dtype=torch.int64),
    )
    dynamic = ({0: Dim.DYNAMIC}, {0: Dim.DYNAMIC}, {1: Dim.DYNAMIC})
    try:
        with redirect_stderr(StringIO()):  # on an error torch prints the whole graph
            return torch.export.export(model, inputs, dynamic_shapes=dynamic, strict=False)
    except (UserError, GuardOnDataDependentSymNode) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"the model cannot be exported ({reason}); a class of your own may not depend on values or on the number of"
            " rows: x.shape[0] may be any number, len(x) is one"
        ) from None


def check_compiler() -> None:
    """
    Raises:
        ValueError: there is no C++ compiler.
    """
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise ValueError("compile is True: no C++ compiler, expected g++ or CXX=COMPILER in the environment") from None


def compile_to(program: ExportedProgram, path: Path) -> None:
    """Compiles the model for this machine's processor."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)  # torch's own
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
