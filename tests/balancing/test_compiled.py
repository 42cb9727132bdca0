"""The C extension: built if there is a compiler, not needed, and switched off by an environment variable."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dlrm_mtl.balancing import BalancingLayer, MultiBalance
from dlrm_mtl.balancing.exchange.shared_sums import shared_sums
from dlrm_mtl.balancing.kernels import compiled
from dlrm_mtl.balancing.kernels.c_structures import INTERFACE_VERSION
from dlrm_mtl.balancing.kernels.cpu_kernels import CpuKernels, cpu_kernels, declare_types
from tests.balancing.kernel_settings import fresh_kernels
from tests.entry_points.processes import ROOT

NOT_BUILT = "without the C kernels"
ROWS = torch.randn(3, 1 << 13, generator=torch.Generator().manual_seed(0))


def assert_balances() -> None:
    layer = BalancingLayer(MultiBalance(3))
    (balanced,) = layer.balance([tuple(ROWS)])
    assert balanced is not None
    torch.testing.assert_close(balanced.double(), MultiBalance(3).combine(ROWS.double()), rtol=1e-5, atol=1e-6)


def build(directory: Path, compiler: str | Path) -> list[Path]:
    """The libraries that ``setup.py`` builds in this directory."""
    subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib", str(directory), "--build-temp", str(directory / "o")],
        cwd=ROOT,
        env={**os.environ, "CC": str(compiler)},
        check=True,
        capture_output=True,
        timeout=120,
    )
    return list(directory.rglob("*.so"))


def test_an_install_without_a_compiler_succeeds(tmp_path: Path) -> None:
    assert build(tmp_path, "/nowhere/cc") == []


def test_a_compiler_without_openmp_builds_for_one_thread(tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    real = shutil.which("cc")
    # -O0: to save time.
    compiler.write_text(f'#!/bin/sh\ncase "$*" in *-fopenmp*) exit 1;; esac\nexec {real} "$@" -O0\n')
    compiler.chmod(0o755)
    [built] = build(tmp_path / "built", compiler)
    library = ctypes.CDLL(str(built))
    declare_types(library)
    gramian = CpuKernels(library, list(ROWS), library.widest_instruction_set()).gramian()
    torch.testing.assert_close(torch.from_numpy(gramian), ROWS.double() @ ROWS.double().T, rtol=1e-6, atol=1e-2)


def test_an_extension_that_is_missing_is_reported_once() -> None:
    with fresh_kernels() as patch:
        patch.setattr(compiled, "EXTENSION", "dlrm_mtl.balancing.kernels.never_built")
        with pytest.warns(UserWarning, match=NOT_BUILT):
            assert cpu_kernels(list(ROWS)) is None
        assert_balances()
        assert shared_sums() is None


def test_an_extension_that_cannot_be_loaded_is_reported(tmp_path: Path) -> None:
    (tmp_path / "damaged_c_functions.abi3.so").write_bytes(b"not a library")
    with fresh_kernels() as patch:
        patch.syspath_prepend(tmp_path)
        patch.setattr(compiled, "EXTENSION", "damaged_c_functions")
        with pytest.warns(UserWarning, match=NOT_BUILT):
            assert cpu_kernels(list(ROWS)) is None
        assert_balances()


def test_an_extension_of_older_sources_is_not_used() -> None:
    with fresh_kernels() as patch:
        patch.setattr(compiled, "INTERFACE_VERSION", INTERFACE_VERSION + 1)
        with pytest.warns(UserWarning, match=NOT_BUILT):
            assert cpu_kernels(list(ROWS)) is None


def test_switched_off() -> None:
    with fresh_kernels("plain"):
        assert cpu_kernels(list(ROWS)) is None
        assert shared_sums() is None
        assert_balances()
    assert cpu_kernels(list(ROWS)) is not None


def test_a_setting_that_does_not_exist() -> None:
    with fresh_kernels("slow"), pytest.raises(ValueError, match=r"DLRM_MTL_KERNELS is 'slow', expected fast or plain"):
        BalancingLayer(MultiBalance(3))
