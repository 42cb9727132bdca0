"""The C functions: compiled once, kept where nobody else writes, and done without where there is no compiler."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.entry_points.processes import ROOT, environment
from tests.preloaded import run_module

KERNELS = Path(__file__).with_name("test_cpu_kernels.py")
BALANCE = Path(__file__).with_name("balance_large.py")
RIGHT = "right\nright\nright\n"


def balance(*launcher: str | Path, **variables: str | Path) -> subprocess.CompletedProcess[str]:
    """In a process that has imported torch before, unless it is to start in a way of its own."""
    own = {**environment(), **{name: str(value) for name, value in variables.items()}}
    if not launcher and "TMPDIR" not in variables:  # which a process looks at once
        return run_module("tests.balancing.balance_large", [], own, ROOT, ranks=0, timeout=120)
    return subprocess.run(
        [*launcher, sys.executable, str(BALANCE)], cwd=ROOT, env=own, capture_output=True, text=True, timeout=120
    )


def c_compiler() -> str:
    real = shutil.which("cc")
    if real is None:
        pytest.skip("needs a C compiler")
    return real


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    """A compiler that notes its calls, in ``calls`` beside it."""
    script = tmp_path / "counted-cc"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "calls"}\nexec {c_compiler()} "$@"\n')
    script.chmod(0o755)
    return script


def calls(compiler: Path) -> int:
    noted = compiler.with_name("calls")
    return len(noted.read_text().splitlines()) if noted.exists() else 0


@pytest.mark.parametrize(
    ("variables", "warnings"),
    [
        ({"CC": "/nowhere/cc"}, 0),
        ({"CC": "false"}, 1),
        ({"TMPDIR": "/nowhere", "XDG_CACHE_HOME": "/proc/nowhere"}, 0),
    ],
    ids=["no compiler", "a compiler that fails", "no directories"],
)
def test_right_in_any_case(variables: dict[str, str], warnings: int) -> None:
    process = balance(**variables)
    assert process.returncode == 0, process.stderr
    assert process.stdout == RIGHT
    assert process.stderr.count("UserWarning") == warnings
    assert process.stderr.count("gradients are balanced by plain PyTorch") == warnings


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of x86-64 processors")
@pytest.mark.parametrize(("processor", "capabilities"), [("x86-64", ()), ("haswell", ("AVX2", "AVX512"))])
def test_right_with_narrower_vectors(processor: str, capabilities: tuple[str, ...], tmp_path: Path) -> None:
    """As on processors that have no wider ones."""
    if capabilities and torch.backends.cpu.get_cpu_capability() not in capabilities:
        pytest.skip(f"this processor cannot do what a {processor} does")
    compiler = tmp_path / "older-cc"
    compiler.write_text(f'#!/bin/sh\nexec {c_compiler()} "$@" -march={processor}\n')
    compiler.chmod(0o755)
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(KERNELS), "-k", "(tasks_and_threads and 2-) or one_pass or even"],
        cwd=ROOT,
        env={**environment(), "CC": str(compiler), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stdout


def test_a_second_process_compiles_nothing(tmp_path: Path, counted: Path) -> None:
    processes = []
    for _ in range(2):
        processes.append((balance(CC=counted, XDG_CACHE_HOME=tmp_path), calls(counted)))
    (first, compiled), (second, in_all) = processes
    assert first.stdout == second.stdout == RIGHT
    assert first.stderr == second.stderr == ""
    assert compiled == in_all > 0
    [kept] = (tmp_path / "dlrm_mtl").iterdir()
    assert kept.suffix == ".so"


def test_another_compiler_compiles_anew(tmp_path: Path, counted: Path) -> None:
    balance(CC=counted, XDG_CACHE_HOME=tmp_path)
    counted.write_text(counted.read_text() + "# another version\n")
    compiled = calls(counted)
    assert balance(CC=counted, XDG_CACHE_HOME=tmp_path).stdout == RIGHT
    assert calls(counted) > compiled


def test_what_cannot_be_loaded_is_made_anew(tmp_path: Path, counted: Path) -> None:
    balance(CC=counted, XDG_CACHE_HOME=tmp_path)
    [kept] = (tmp_path / "dlrm_mtl").iterdir()
    kept.write_bytes(b"not a library")
    assert balance(CC=counted, XDG_CACHE_HOME=tmp_path).stdout == RIGHT
    compiled = calls(counted)
    assert balance(CC=counted, XDG_CACHE_HOME=tmp_path).stdout == RIGHT
    assert calls(counted) == compiled


def test_nothing_is_loaded_from_where_others_may_write(tmp_path: Path, counted: Path) -> None:
    cache = tmp_path / "dlrm_mtl"
    cache.mkdir()
    cache.chmod(0o777)
    for _ in range(2):
        assert balance(CC=counted, XDG_CACHE_HOME=tmp_path).stdout == RIGHT
    assert list(cache.iterdir()) == []


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare, to mount a directory")
def test_compiled_elsewhere_where_nothing_may_run(tmp_path: Path, counted: Path) -> None:
    directory = tmp_path / "cache"
    directory.mkdir()
    namespace = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]
    mount = [*namespace, "sh", "-c", 'mount -t tmpfs -o noexec none "$0" && exec "$@"', str(directory)]
    attempt = subprocess.run([*mount, "true"], capture_output=True, text=True)
    if attempt.returncode:
        pytest.skip(f"cannot mount a directory: {attempt.stderr.strip()}")
    process = balance(*mount, CC=counted, XDG_CACHE_HOME=directory)
    assert (process.stdout, process.stderr) == (RIGHT, "")
    assert calls(counted)
