"""The wheel: what it installs, and what it registers."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from torchx.specs import finder
from torchx.util.entrypoints import load_group

from tests.entry_points.processes import ROOT

KINDS = {"dlrm_mtl": {".py", ".typed", ".json", ".j2", ".c", ".h"}, "data_prep": {".py", ".toml"}}
BUILD = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the content of the wheel, built from a copy of what git knows."""
    source = tmp_path_factory.mktemp("source")
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file() and not name.startswith("docs/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    without_compiler = {**os.environ, "CC": "false"}  # as on a machine that has none, and in less time
    output = subprocess.check_output(
        [sys.executable, "-c", BUILD], cwd=source, env=without_compiler, text=True, stderr=subprocess.STDOUT
    )
    target = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(source / "dist" / output.splitlines()[-1]) as wheel:
        wheel.extractall(target)
    return target


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_its_top_level_names(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"dlrm_mtl", "data_prep"}


@pytest.mark.parametrize("package", ["dlrm_mtl", "data_prep"])
def test_it_holds_every_file_of_the_packages(installed: Path, package: str) -> None:
    tracked = subprocess.check_output(["git", "ls-files", package], cwd=ROOT, text=True).split()
    assert {Path(name).suffix for name in tracked} == KINDS[package]
    assert {name for name in tracked if (ROOT / name).exists()} <= files(installed)


def test_torchx_finds_its_components_and_its_own(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setattr(finder, "_components", None)
    names = finder.get_components().keys()
    components = ("compare", "evaluate", "experiments", "export", "predict", "prepare", "stream", "train")
    assert {name for name in names if name.startswith("dlrm_mtl.")} == {f"dlrm_mtl.{name}" for name in components}
    assert {"dist.ddp", "utils.echo"} <= names


def test_torchx_finds_its_named_resources(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed)
    nodes = {name: make() for name, make in load_group("torchx.named_resources").items()}
    assert {"h200x8_rdma", "aws_p5en.48xlarge"} <= nodes.keys()
    assert all(node.gpu == 8 and node.devices for node in nodes.values())
