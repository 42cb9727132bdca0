"""Forbidden imports: between packages, between rooms, of torch; and the sizes of files and folders."""

import ast
import functools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.pages import ROOT

FLOORS = (
    {"balancing", "statistics", "storage"},
    {"data", "distributed", "models"},
    {"metrics"},
    {"monitoring"},
    {"training"},
    {"reporting"},
    {"inference"},
    {"serving"},
    {"streaming"},
    {"benchmarks", "planning", "power_analysis", "studies"},
)
"""Packages of dlrm_mtl by floor, the lowest first: none imports a package of a higher floor."""

ROOMS = {
    "dlrm_mtl.balancing": ("algebra", "kernels", "state", "exchange", "methods"),
    "data_prep": (
        *(
            "columns",
            "sources",
            "ids",
            "encoding",
            "output",
            "engine",
            "periods",
            "ali_ccp_log",
            "kuairand_log",
            "generated",
        ),
        *("joined", "statistics", "benchmark"),
    ),
}
"""Rooms of a package, the lowest first: none imports a higher room or a file beside the rooms."""

LIGHT = ("cli", "config", "files", "location", "quoting", "recipe", "records", "run_config", "schema")
"""Files that do not import torch, directly or through others."""

LARGE = {
    "dlrm_mtl.balancing.methods",
    "dlrm_mtl.data",
    "dlrm_mtl.distributed",
}
"""Folders of more than 15 files without rooms."""

TORCH = {"torch", "torchrec", "fbgemm_gpu"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {
    name_of(path): path for package in ("dlrm_mtl", "data_prep") for path in sorted(ROOT.glob(f"{package}/**/*.py"))
}
PACKAGES = [name for name, path in MODULES.items() if path.name == "__init__.py"]
TOP = [name.partition(".")[2] for name in MODULES if name.startswith("dlrm_mtl.") and name.count(".") == 1]
FILES = [name for name in TOP if f"dlrm_mtl.{name}" not in PACKAGES]


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


ENTRY_POINTS = [
    name
    for name in FILES
    if any(
        isinstance(node, ast.FunctionDef) and node.name in ("main", "train") for node in tree(f"dlrm_mtl.{name}").body
    )
]


def nodes(module: str, lazy: bool) -> Iterator[ast.AST]:
    """The nodes of a file; without ``lazy``, only those that run on import."""
    left: list[ast.AST] = [tree(module)]
    while left:
        node = left.pop()
        yield node
        if lazy or not isinstance(node, ast.FunctionDef):
            left.extend(ast.iter_child_nodes(node))


@functools.cache
def imports(module: str, lazy: bool = True) -> frozenset[str]:
    """The files of this project, and the other packages, that a file imports."""
    names = set()
    for node in nodes(module, lazy):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names |= {f"{node.module}.{name.name}" for name in node.names}
    return frozenset(resolve(name) for name in names) - {module}


def resolve(name: str) -> str:
    """The file of this project, or the other package, that contains a name."""
    while name not in MODULES and "." in name:
        name = name.rpartition(".")[0]
    return name


def reached(module: str, lazy: bool) -> set[str]:
    """All files and packages that a file imports, directly or through others."""
    seen: set[str] = set()
    left = {module}
    while left:
        name = left.pop()
        seen.add(name)
        if name in MODULES:
            left |= imports(name, lazy) - seen
    return seen


def inside(package: str) -> list[str]:
    return [name for name in MODULES if name == package or name.startswith(f"{package}.")]


def child(package: str, module: str) -> str:
    """The child of a package that contains a module; empty for the package itself and for modules outside."""
    return module.removeprefix(f"{package}.").partition(".")[0] if module.startswith(f"{package}.") else ""


@pytest.mark.parametrize("package", [name for floor in FLOORS for name in sorted(floor)])
def test_packages_import_nothing_above_them(package: str) -> None:
    place = next(index for index, floor in enumerate(FLOORS) if package in floor)
    above = {*set().union(*FLOORS[place + 1 :]), *ENTRY_POINTS}
    modules = inside(f"dlrm_mtl.{package}")
    assert modules
    assert [(m, name) for m in modules for name in imports(m) if child("dlrm_mtl", name) in above] == []


@pytest.mark.parametrize("file", [name for name in FILES if name not in ENTRY_POINTS])
def test_files_below_the_packages_import_none_of_them(file: str) -> None:
    """Except balancing, whose methods arms name."""
    above = {*TOP} - {*FILES, "balancing"} | {*ENTRY_POINTS}
    assert [name for name in imports(f"dlrm_mtl.{file}") if child("dlrm_mtl", name) in above] == []


def test_balancing_stands_alone() -> None:
    used = set().union(*(imports(module) for module in inside("dlrm_mtl.balancing")))
    assert {name for name in used if name in MODULES} <= {*inside("dlrm_mtl.balancing"), "dlrm_mtl"}
    assert not used & {"torchrec", "fbgemm_gpu"}


def test_serving_encodes_raw_rows_by_data_prep() -> None:
    """Nothing else uses it, except components, which start its entry points."""
    used = {(module, name) for module in inside("dlrm_mtl") for name in imports(module) if name.startswith("data_prep")}
    users = {child("dlrm_mtl", module) for module, _ in used}
    assert users <= {"serving", "components"}
    for module, name in used:
        assert name in inside("data_prep.encoding") or module == "dlrm_mtl.components"


def test_scoring_and_applying_need_no_torchrec_and_no_command_line() -> None:
    assert not reached("dlrm_mtl.apply", lazy=True) & {"torchrec", "fbgemm_gpu"}
    assert not reached("dlrm_mtl.serving", lazy=False) & {"torchrec", "fbgemm_gpu", "tyro", "tqdm"}


@pytest.mark.parametrize("file", LIGHT)
def test_light_files_reach_no_torch(file: str) -> None:
    assert not reached(f"dlrm_mtl.{file}", lazy=True) & TORCH


def test_entry_points_start_without_torch() -> None:
    """torch takes seconds to import, too long for --help or a wrong option."""
    assert len(ENTRY_POINTS) >= 5
    assert [name for name in ENTRY_POINTS if reached(f"dlrm_mtl.{name}", lazy=False) & TORCH] == []
    assert [name for name in inside("data_prep") if reached(name, lazy=False) & TORCH] == []


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_what_is_below(package: str) -> None:
    order = ROOMS[package]
    for room in order:
        modules = inside(f"{package}.{room}")
        assert modules
        allowed = {"", *order[: order.index(room) + 1]}
        assert [(m, name) for m in modules for name in imports(m) if child(package, name) not in allowed] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_goes_in_a_circle(package: str) -> None:
    """Among the files and folders of each package, with a folder taken as one."""
    below: dict[str, set[str]] = {}
    for module in inside(package):
        own = child(package, module)
        below.setdefault(own, set()).update({child(package, name) for name in imports(module)} - {own, ""})
    below.pop("", None)
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        pytest.fail(f"{package}: {error.args[1]}")


@pytest.mark.parametrize("module", MODULES)
def test_no_import_is_tried(module: str) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Try):
            tried = [child for child in ast.walk(node) if isinstance(child, ast.Import | ast.ImportFrom)]
            assert not tried, f"line {node.lineno}"


@pytest.mark.parametrize("module", MODULES)
def test_files_stay_readable(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= 400


@pytest.mark.parametrize("package", [name for name in PACKAGES if name not in LARGE])
def test_folders_stay_readable(package: str) -> None:
    """At most 15 files, or rooms."""
    children = {child(package, module) for module in inside(package)} - {""}
    files = [name for name in children if f"{package}.{name}" not in PACKAGES]
    assert len(files) <= 15 or len(files) < len(children)
