"""The console command ``dlrm-mtl``."""

import subprocess
import sys
from importlib import import_module

import pytest

from dlrm_mtl import commands
from dlrm_mtl.commands import COMMANDS
from dlrm_mtl.extras import TRAINING
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
    commands = {command.module for command in COMMANDS.values() if command.module.startswith("dlrm_mtl.")}
    assert modules - commands == {"dlrm_mtl.torchrun"}  # which starts the processes of the others
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
    ("name", "how"),
    [
        ("compare", "command"),
        ("report", "command"),
        ("prepare criteo", "command"),
        *((name, "module") for name in COMMANDS if name != "experiments"),
    ],
)
def test_without_its_extra(name: str, how: str) -> None:
    """In an environment of no packages, which -S leaves; experiments imports NumPy, which needs no extra, before."""
    command = COMMANDS[name]
    typed = ["-c", "from dlrm_mtl import commands; commands.main()", *name.split()]
    process = subprocess.run(
        [sys.executable, "-S", *(typed if how == "command" else ["-m", command.module])],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    [line] = process.stderr.splitlines()
    assert "tyro" in line
    assert "dlrm-mtl[" + {TRAINING: "cpu"}.get(command.kind, command.kind) + "]" in line
