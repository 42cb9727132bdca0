"""The launcher's configuration file: supported schedulers and their options only."""

import configparser
import re

import pytest
from torchx.runner.config import load
from torchx.schedulers import get_scheduler_factories

from tests.pages import ROOT

FILE = ROOT / ".torchxconfig"
SCHEDULERS = ("local_cwd", "slurm", "kubernetes")


def with_suggestions() -> str:
    """The file, with the options that it only suggests."""
    return re.sub(r"^#(?=[\w-]+ = )", "", FILE.read_text(), flags=re.MULTILINE)


def test_its_sections() -> None:
    config = configparser.ConfigParser()
    config.read(FILE)
    assert config.sections() == ["cli:run", *SCHEDULERS]
    assert dict(config["cli:run"]) == {"scheduler": "local_cwd"}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_its_options_are_the_schedulers(name: str) -> None:
    config = configparser.ConfigParser()
    config.read_string(with_suggestions())
    known = get_scheduler_factories()[name](session_name="test").run_opts()
    assert config.options(name)
    assert [option for option in config.options(name) if known.get(option) is None] == []
    with FILE.open() as file:
        values: dict[str, str | int | bool | list[str] | dict[str, str] | None] = {}
        load(name, file, values)
    assert known.resolve(values), "none that is required is missing"
