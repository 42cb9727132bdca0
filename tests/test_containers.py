"""The image, checked without a container engine: its versions and installation are those of the project."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.entry_points.processes import ROOT, run
from tests.messages import mentions

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALL = (ROOT / "launch/install.sh").read_text()
CUDA_OF_TORCH = {"2.13.0": "13.0"}
"""The CUDA version that torch's wheels on PyPI are built with, by their metadata."""


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what follows each."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines)]


def of_kind(kind: str) -> list[str]:
    return [rest for name, rest in instructions() if name == kind]


def pin(package: str, requirements: list[str]) -> str:
    [version] = [text.partition("==")[2] for text in requirements if re.split(r"[\[=<>]", text)[0] == package]
    return version


def test_python_is_the_one_that_is_tested() -> None:
    [base] = of_kind("FROM")
    # In full, as builders without Docker need it.
    found = re.fullmatch(r"docker\.io/library/python:(\d+\.\d+)-slim-\w+", base)
    assert found
    assert f"python=${{PYTHON:-python{found[1]}}}" in INSTALL
    assert PROJECT["requires-python"] == f">={found[1]}"


def test_the_driver_is_that_of_torchs_cuda() -> None:
    environment = " ".join(of_kind("ENV"))
    assert (
        f'NVIDIA_REQUIRE_CUDA="cuda>={CUDA_OF_TORCH[pin("torch", PROJECT["optional-dependencies"]["cuda"])]}"'
        in environment
    )


def test_it_installs_by_the_projects_own_script() -> None:
    """The Dockerfile names no versions; the builds are those of pyproject.toml."""
    system, *commands = of_kind("RUN")
    packages = re.findall(r"--no-install-recommends ([^&]+) &&", system)
    assert packages == ["gcc libc6-dev libibverbs1 ibverbs-providers librdmacm1"]
    assert re.search(r"\bBUILD=\$BUILD EXTRAS=torchjd launch/install\.sh /opt/venv$", commands[0])
    assert of_kind("ARG") == ["BUILD=cuda"]
    assert not re.search(r"==|>=|torch(?!jd)", " ".join(commands))
    assert [re.findall(r"-e \S+", command) for command in commands[1:]] == [["-e ."]]
    assert "PATH=/opt/venv/bin:$PATH" in of_kind("ENV")[0]


def test_the_pins_of_both_builds_run_on_all() -> None:
    builds = PROJECT["optional-dependencies"]
    torchrec = pin("torchrec", builds["cuda"])
    assert pin("torch", builds["cuda"]) == pin("torch", builds["cpu"])
    assert f"--no-deps torchrec=={torchrec}\n" in INSTALL
    assert pin("fbgemm-gpu", builds["cuda"]) == pin("fbgemm-gpu-cpu", builds["cpu"]) == torchrec


def test_it_does_not_run_as_root() -> None:
    names = [name for name, _ in instructions()]
    [user] = of_kind("USER")
    assert user.isdigit()
    assert int(user) > 0
    assert f"useradd --uid {user} " in of_kind("RUN")[-1]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in ("RUN", "COPY"))


def test_dependencies_come_before_code() -> None:
    order = [rest.split()[0] for name, rest in instructions() if name == "COPY"]
    assert order == ["pyproject.toml", "launch/install.sh", "setup.py", "dlrm_mtl", "data_prep"]
    first_install = next(index for index, (name, _) in enumerate(instructions()) if name == "RUN")
    before = [rest for name, rest in instructions()[:first_install] if name == "COPY"]
    assert not any("dlrm_mtl" in rest or "data_prep" in rest for rest in before)


def test_what_is_copied_is_what_is_sent_and_is_there() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith(("#", "!"))] == ["*", "**/__pycache__", "**/*.so"]
    sent = {line[1:] for line in lines if line.startswith("!")}
    copied = {source for rest in of_kind("COPY") for source in rest.split()[:-1]}
    assert sent == copied
    assert all((ROOT / path).exists() for path in copied)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages <= copied


def test_builders_without_a_daemon_can_read_it() -> None:
    """Kaniko and buildah know none of BuildKit's extensions."""
    text = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"^# *(syntax|check|escape)=|^(RUN|COPY|ADD) +--\w|<<", text, flags=re.MULTILINE)
    known = {"FROM", "ARG", "ENV", "WORKDIR", "RUN", "COPY", "USER", "CMD"}
    assert {name for name, _ in instructions()} <= known


def test_its_steps_run_one_after_the_other(tmp_path: Path) -> None:
    """Each step in a shell, in a copy of the file system so far, with programs that record their arguments instead of
    installing: what a step reads was copied before it."""
    image, programs = tmp_path / "image", tmp_path / "programs"
    programs.mkdir()
    for name in ("apt-get", "pip", "useradd"):
        _program(programs / name, f'echo {name} "$@" >> {tmp_path}/calls')
    # The virtual environment's own pip, and what a package needs to be installed from a directory.
    make = f"mkdir -p $3/bin; cp {programs}/pip $3/bin/; ln -s {sys.executable} $3/bin/python"
    _program(programs / "python3.11", f'[ "$1" = -c ] && exec {sys.executable} "$@"; {make}')
    # A system's directories are inside the image: no step touches those of this machine.
    inside = functools.partial(re.sub, r"(?<![\w./])/(?=(opt|var)/)", f"{image}/")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    where = image
    for name, rest in instructions():
        if name == "ARG":
            variable, _, value = rest.partition("=")
            environment[variable] = value
        elif name == "WORKDIR":
            where = Path(inside(rest))
            where.mkdir(parents=True)
        elif name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                _copy(ROOT / source, where / target, into=target.endswith("/"))
        elif name == "RUN":
            step = subprocess.run(
                ["sh", "-euc", inside(rest)], cwd=where, env=environment, capture_output=True, text=True, check=False
            )
            assert step.returncode == 0, (rest, step.stderr)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[:2] for call in calls] == [
        ["apt-get", "update"],
        ["apt-get", "install"],
        ["pip", "install"],
        ["pip", "install"],
        ["useradd", "--uid"],
    ]
    assert ".[cuda,torchjd]" in calls[2]
    assert calls[3].endswith("--no-deps -e .")
    assert (where / "setup.py").is_file()
    assert (where / "dlrm_mtl/torchrun.py").is_file()


def _program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def _copy(source: Path, target: Path, into: bool) -> None:
    """As COPY does: the content of a directory, and a file into a directory whose name ends with a slash."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    else:
        target = target / source.name if into else target
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def test_it_says_how_it_is_used() -> None:
    [command] = of_kind("CMD")
    program, flag, module, help_ = json.loads(command)
    assert program == "python"
    process = run(sys.executable, flag, module, help_)
    assert process.returncode == 0
    assert "--data" in process.stdout
    assert of_kind("ENTRYPOINT") == []  # schedulers give the whole command


@pytest.mark.parametrize(
    ("build", "extras", "expected"),
    [
        ("cuda", "launch,dev", [["install", "--quiet", "-e", ".[cuda,launch,dev]"]]),
        ("cuda", "", [["install", "--quiet", "-e", ".[cuda]"]]),
        ("cpu", "", [["install", "--quiet", "-e", ".[cpu]"], ["install", "--quiet", "--no-deps", "torchrec==1.8.0"]]),
    ],
)
def test_the_script_installs_what_it_is_told(
    tmp_path: Path, build: str, extras: str, expected: list[list[str]]
) -> None:
    assert _install(tmp_path, BUILD=build, EXTRAS=extras).returncode == 0
    calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls == expected


def test_the_script_refuses_other_builds(tmp_path: Path) -> None:
    process = _install(tmp_path, BUILD="rocm")
    assert process.returncode == 2
    assert mentions(process.stderr, "BUILD", "'rocm'", "cuda or cpu")
    assert not (tmp_path / "calls").exists()


def _install(venv: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the script with a pip that records its arguments."""
    (venv / "bin").mkdir()
    _program(venv / "bin/python", "exit 1")
    _program(venv / "bin/pip", f'echo "$@" >> {venv}/calls')
    environment = {**os.environ, "PYTHON": sys.executable, **variables}
    return subprocess.run(
        [ROOT / "launch/install.sh", venv], env=environment, capture_output=True, text=True, check=False
    )
