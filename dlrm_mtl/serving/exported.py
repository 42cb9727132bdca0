"""Opens an export. Needs torch, and for int8 tables fbgemm_gpu; neither TorchRec nor the code of the model."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from dlrm_mtl.serving.manifest import COMPILED, MODEL, Manifest, Processor, read_manifest


@dataclass(frozen=True)
class Export:
    """An exported model."""

    directory: Path
    manifest: Manifest
    model: Callable[[Tensor, Tensor, Tensor], Tensor]
    """The model itself, which checks neither types nor shapes."""

    @torch.no_grad()
    def __call__(self, dense: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
        """
        Args:
            dense: (B, N) float32.
            values: (T,) int64 ids of all features, feature by feature, row by row within a feature. They must be in
                ``[0, rows)`` of their tables: float tables raise RuntimeError for others, int8 tables take -1 for an
                empty bag.
            lengths: (F, B) int64 numbers of ids.

        Returns:
            (B, M + P) float32 predictions, by ``manifest.outputs``.

        Raises:
            ValueError: a tensor has another dtype or shape, or the lengths do not add up to T.
        """
        rows = dense.shape[0] if dense.dim() == 2 else "B"
        for name, tensor, dtype, shape in (
            ("dense", dense, torch.float32, (rows, len(self.manifest.dense))),
            ("values", values, torch.int64, (values.numel(),)),
            ("lengths", lengths, torch.int64, (len(self.manifest.features), rows)),
        ):
            if tensor.dtype != dtype or tuple(tensor.shape) != shape:
                described = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
                raise ValueError(f"{name} is {described}, expected {str(dtype).removeprefix('torch.')} {shape}")
        if (total := int(lengths.sum())) != values.numel() or (lengths.numel() and int(lengths.min()) < 0):
            raise ValueError(f"lengths add up to {total}, expected {values.numel()}, the number of values")
        if rows == 0:  # the compiled model needs at least one
            return dense.new_empty(0, len(self.manifest.outputs))
        return self.model(dense.contiguous(), values.contiguous(), lengths.contiguous())


def open_export(directory: Path, compiled: bool | None = None) -> Export:
    """Opens an export, once its files are verified.

    Args:
        compiled: whether to run the compiled model; by default where there is one.

    Raises:
        ValueError: see :func:`read_manifest`; there is no compiled model, or it is for another processor; another
            version of torch or fbgemm wrote the export; fbgemm_gpu is not installed.
    """
    manifest = read_manifest(directory)
    _check_versions(directory, manifest)
    if compiled is None:
        compiled = manifest.processor is not None
    if not compiled:
        model = torch.export.load(directory / MODEL).module()
        return Export(directory, manifest, model)
    if manifest.processor is None:
        raise ValueError(f"{directory}: has no {COMPILED}, expected an export with --compile True")
    _check_processor(directory / COMPILED, manifest.processor)
    return Export(directory, manifest, torch._inductor.aoti_load_package(str(directory / COMPILED)))


def processor() -> Processor:
    """That of this machine."""
    capabilities = torch.cpu.get_capabilities()
    return Processor(platform.machine(), tuple(sorted(name for name, has in capabilities.items() if has is True)))


def fbgemm_version() -> str:
    return str(import_module("fbgemm_gpu").__version__)


def _check_versions(directory: Path, manifest: Manifest) -> None:
    versions = {"torch": str(torch.__version__)}
    if manifest.precision == "int8":
        if find_spec("fbgemm_gpu") is None:
            raise ValueError(f"{directory}: int8 tables need fbgemm_gpu, which is not installed")
        versions["fbgemm_gpu"] = fbgemm_version()  # also registers the operators of the tables
    for name, version in versions.items():
        written = manifest.versions[name]
        if _minor(version) != _minor(written):
            raise ValueError(f"{directory}: written by {name} {written}, and this is {version}; export again")


def _check_processor(path: Path, compiled_for: Processor) -> None:
    here = processor()
    if here.machine != compiled_for.machine:
        raise ValueError(f"{path}: compiled for {compiled_for.machine}, and this is {here.machine}; export here")
    if missing := sorted(set(compiled_for.features) - set(here.features)):
        raise ValueError(f"{path}: compiled for a processor with {', '.join(missing)}; export again on this machine")


def _minor(version: str) -> list[str]:
    return version.split("+")[0].split(".")[:2]
