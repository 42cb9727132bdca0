"""The start-up check names the right versions."""

import gc
from importlib import metadata

import pytest

from dlrm_mtl.distributed.versions import check_versions, torchrec_imports
from tests.messages import mentions, naming

EXPECTED = r"expected torch 2\.13, torchrec 1\.8 and fbgemm-gpu \(or fbgemm-gpu-cpu\) 1\.8"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Packages that seem to be installed; the right ones, to be changed."""
    versions = {"torch": "2.13.0+cpu", "torchrec": "1.8.0", "fbgemm-gpu-cpu": "1.8.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    return versions


def test_these_versions_go_together() -> None:
    assert check_versions().keys() >= {"torch", "torchrec"}


def test_the_cpu_triple(installed: dict[str, str]) -> None:
    assert check_versions() == {"torch": "2.13.0+cpu", "torchrec": "1.8.0", "fbgemm-gpu-cpu": "1.8.0"}


def test_the_cuda_triple_and_patch_releases(installed: dict[str, str]) -> None:
    del installed["fbgemm-gpu-cpu"]
    installed.update({"torch": "2.13.1+cu130", "torchrec": "1.8.2+cu130", "fbgemm-gpu": "1.8.1"})
    assert check_versions() == installed


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("torch", "2.12.1"),
        ("torch", "2.130.0"),
        ("torch", "3.13.0"),
        ("torchrec", "1.7.0"),
        ("torchrec", "1.80.0"),
        ("fbgemm-gpu-cpu", "1.7.0+cpu"),
    ],
)
def test_another_version_is_named_with_the_right_ones(installed: dict[str, str], name: str, version: str) -> None:
    installed[name] = version
    with pytest.raises(ValueError, match=EXPECTED) as error:
        check_versions()
    assert f"{name} {version}" in str(error.value)


@pytest.mark.parametrize("name", ["torch", "torchrec", "fbgemm-gpu-cpu"])
def test_a_missing_package_is_named_with_the_right_ones(installed: dict[str, str], name: str) -> None:
    del installed[name]
    with pytest.raises(ValueError, match=EXPECTED) as error:
        check_versions()
    assert mentions(str(error.value), name, "not installed")


def test_a_wrong_cuda_build_is_not_hidden_by_the_cpu_build(installed: dict[str, str]) -> None:
    installed["fbgemm-gpu"] = "1.6.0"
    with pytest.raises(ValueError, match=naming("fbgemm-gpu 1.6.0")):
        check_versions()


def test_garbage_is_collected_again_after_the_imports() -> None:
    with torchrec_imports():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_nothing_is_imported_of_other_versions(installed: dict[str, str]) -> None:
    installed["torch"] = "2.12.0"
    with pytest.raises(ValueError, match="torch"), torchrec_imports():
        raise AssertionError("imported")
