"""The house: imports run one way, files stay readable, nothing hides a missing dependency."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import dlrm_mtl

PACKAGE = Path(dlrm_mtl.__file__).resolve().parent
MODULES = sorted(PACKAGE.rglob("*.py"))

ALLOWED: dict[str, set[str]] = {
    "balancing": set(),
    "config": {"quoting", "task_weights"},
    "ending": {"quoting"},
    "file_names": set(),
    "columns": set(),
    "files": {"quoting"},
    "meaning": {"quoting", "records"},
    "metrics": {
        *("balancing", "data", "distributed", "files", "models", "quoting", "records", "segments", "statistics"),
    },
    "module_names": set(),
    "option_file": {"files", "quoting", "records"},
    "quoting": set(),
    "records": {"quoting"},
    "json_lines": {"files"},
    "recipe": {"quoting"},
    "units": {"config"},
    "training_length": {"config", "records"},
    "arms": {"balancing", "config", "module_names", "quoting", "recipe"},
    "mixing": set(),
    "segments": {"quoting"},
    "schema": {"files", "meaning", "quoting", "records", "segments"},
    "statistics": set(),
    "task_weights": {"quoting"},
    "srun": set(),
    "cli": {"ending", "option_file", "srun"},
    "run_directory": {"cli", "config", "files", "json_lines", "quoting"},
    "data": {"config", "ending", "meaning", "mixing", "module_names", "quoting", "records", "schema", "segments"},
    "distributed": {"config", "ending", "files", "module_names", "quoting", "records", "schema", "srun", "units"},
    "models": {"balancing", "config", "data", "module_names", "schema"},
    "training": {
        *("arms", "balancing", "config", "data", "distributed", "ending", "file_names", "files", "json_lines"),
        *("meaning", "metrics", "models", "module_names", "recipe", "records", "run_directory", "schema"),
        "training_length",
    },
    "planning": {"cli", "columns", "config", "distributed", "models", "module_names", "schema", "training", "units"},
    "reporting": {
        *("config", "distributed", "ending", "file_names", "files", "metrics", "quoting", "records", "run_directory"),
        *("schema", "statistics", "task_weights", "training", "training_length"),
    },
    "studies": {
        *("arms", "balancing", "config", "data", "distributed", "files", "metrics", "models", "module_names", "recipe"),
        *("reporting", "schema", "statistics", "task_weights", "training", "training_length"),
    },
    "benchmarks": {
        *("balancing", "config", "data", "distributed", "files", "models", "recipe", "reporting", "run_directory"),
        *("schema", "statistics", "training"),
    },
    "launching": {"arms", "cli", "config", "quoting", "recipe", "schema", "task_weights"},
    "plan": {"cli", "distributed", "files", "planning"},
    "train": {"cli", "config", "distributed", "files", "reporting", "training"},
    "bench": {"benchmarks", "cli", "distributed", "files"},
    "report": {"cli", "files", "reporting"},
    "power": {"cli", "files", "power_analysis"},
    "power_analysis": {
        *("columns", "config", "quoting", "records", "reporting", "schema", "statistics", "task_weights"),
    },
    "compare": {"cli", "config", "distributed", "reporting"},
    "experiments": {"cli", "config", "distributed", "files", "schema", "studies"},
}
"""What each part of the package may import of the others."""


ROOMS = {"balancing": ("algebra", "kernels", "state", "exchange", "methods")}
"""Rooms of a part, from the lowest on: none imports one above, nor what stands beside the rooms, which is above all."""


def part(module: Path) -> str:
    """The part a module belongs to: its package, or itself."""
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


@functools.cache
def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


def imports(module: Path) -> Iterator[str]:
    """Every module that is imported, at whatever depth of the file, by its full name."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def imported_parts(module: Path) -> set[str]:
    """Parts of dlrm_mtl that a module imports, its own left out."""
    return {name.split(".")[1] for name in imports(module) if name.startswith("dlrm_mtl.")} - {part(module)}


def identify(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


def test_every_part_has_its_place() -> None:
    assert {part(module) for module in MODULES} - {"__init__"} == ALLOWED.keys()


def test_the_table_has_no_circle() -> None:
    left = dict(ALLOWED)
    while left:
        lowest = [name for name, above in left.items() if not above & left.keys()]
        assert lowest, f"a circle among {sorted(left)}"
        left = {name: above for name, above in left.items() if name not in lowest}


def test_the_table_allows_nothing_unused() -> None:
    used: dict[str, set[str]] = {name: set() for name in ALLOWED}
    for module in MODULES:
        if part(module) in used:
            used[part(module)] |= imported_parts(module)
    assert used == ALLOWED


@pytest.mark.parametrize("module", MODULES, ids=identify)
def test_imports_run_one_way(module: Path) -> None:
    beyond = imported_parts(module) - ALLOWED.get(part(module), set())
    assert not beyond


@pytest.mark.parametrize("owner", ROOMS)
def test_rooms_import_what_is_below(owner: str) -> None:
    order = ROOMS[owner]
    seen = set()
    for module in MODULES:
        of_part, *rest = module.relative_to(PACKAGE).parts
        if of_part != owner or len(rest) < 2:
            continue
        seen.add(rest[0])
        below = (rest[0], *order[: order.index(rest[0])])
        for name in imports(module):
            if name.startswith(f"dlrm_mtl.{owner}."):
                assert name.split(".")[2] in below, f"{identify(module)} imports {name}"
    assert seen == set(order)


@pytest.mark.parametrize(
    ("above", "forbidden"),
    [
        ("balancing", {"torchrec", "fbgemm_gpu"}),
        ("arms", {"torchrec", "fbgemm_gpu"}),
        *(
            (name, {"torch", "torchrec", "fbgemm_gpu"})
            for name in (
                *("cli", "config", "ending", "files", "json_lines", "quoting", "recipe", "records", "schema", "srun"),
                *("task_weights", "training_length", "units"),
            )
        ),
    ],
)
def test_the_light_parts_stay_light(above: str, forbidden: set[str]) -> None:
    used = {name.split(".")[0] for module in MODULES if part(module) == above for name in imports(module)}
    assert used
    assert not used & forbidden


@pytest.mark.parametrize("module", MODULES, ids=identify)
def test_no_import_is_tried(module: Path) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Try):
            inside = [child for child in ast.walk(node) if isinstance(child, ast.Import | ast.ImportFrom)]
            assert not inside, f"line {node.lineno}"


@pytest.mark.parametrize("module", MODULES, ids=identify)
def test_files_stay_readable(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 400
