"""The plans that docs/planning.md shows."""

import pytest

from tests.entry_points.processes import python
from tests.pages import ROOT, blocks


@pytest.mark.parametrize("example", blocks(ROOT / "docs/planning.md", "console"), ids=lambda text: text.split("\n")[0])
def test_examples_of_plans_are_what_the_planner_says(example: str) -> None:
    command, output = example.split("\n", 1)
    arguments = command.removeprefix("$ python -m dlrm_mtl.plan ").split()
    process = python("dlrm_mtl.plan", *arguments)
    assert process.returncode == (0 if "It fits." in output else 1), process.stderr
    assert process.stdout == output
