"""The console command ``dlrm-mtl``."""

import subprocess
import sys
from importlib import import_module

import pytest

from dlrm_mtl import commands
from dlrm_mtl.commands import COMMANDS
from tests.entry_points.processes import ROOT


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """Runs the command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["dlrm-mtl", *arguments])
    try:
        commands.main()
    except SystemExit as stop:
        return stop.code
    return 0


def test_every_entry_point_is_a_command() -> None:
    modules = {f"dlrm_mtl.{path.stem}" for path in (ROOT / "dlrm_mtl").glob("*.py") if "__main__" in path.read_text()}
    assert {command.module for command in COMMANDS.values() if command.module.startswith("dlrm_mtl.")} == modules
    assert all(callable(import_module(command.module).main) for command in COMMANDS.values())


def test_help_lists_the_commands_without_importing_torch() -> None:
    script = "import sys; from dlrm_mtl import commands; commands.main(); sys.exit('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", script, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0
    assert all(name in process.stdout for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["prepare"], ["prepare", "--help"]])
def test_prepare_lists_its_sources(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(monkeypatch, *arguments) == 0
    listed = capsys.readouterr().out
    assert "prepare criteo" in listed
    assert "compare" not in listed


@pytest.mark.parametrize("name", ["plan", "experiments", "bench", "prepare criteo"])
def test_usage_names_what_was_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(monkeypatch, *name.split(), "--help") == 0
    assert capsys.readouterr().out.startswith(f"usage: dlrm-mtl {name} ")


@pytest.mark.parametrize("arguments", [["compere"], ["prepare", "critio"], ["criteo"]])
def test_another_command_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "expected one of prepare criteo, " in line


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("compare", "tyro", "cuda"),
        ("train", "torchrec", "cpu"),
        ("report", "jinja2", "report"),
        ("describe", "pyarrow", "prepare"),
    ],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert run(monkeypatch, name, "--help") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"not installed: {module}." in line
    assert f'"dlrm-mtl[{extra}]"' in line
