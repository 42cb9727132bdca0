"""Options in files: TOML and JSON have the command line's options, and errors name the file."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl import cli
from dlrm_mtl.run_config import CompareConfig, TrainConfig
from tests.configurations import BY_SHARES, CHANGED, REQUIRED, leaves
from tests.messages import naming
from tests.pages import ROOT


@pytest.fixture(autouse=True)
def _end_by_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing must not end this process."""
    monkeypatch.setattr(cli, "end_process", sys.exit)


DEFAULT = TrainConfig(Path("data"), Path("out"))


def test_the_changed_configurations_have_no_default_left() -> None:
    changed = leaves(CHANGED), leaves(BY_SHARES)
    assert [name for name, value in leaves(DEFAULT).items() if all(each[name] == value for each in changed)] == []


@pytest.mark.parametrize("config", [CHANGED, BY_SHARES, DEFAULT], ids=["changed", "by shares", "default"])
def test_a_written_configuration_is_read_back(tmp_path: Path, config: TrainConfig) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(cli.as_dict(config)))
    assert cli.parse(TrainConfig, "train", ["--config", str(file)]) == config


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").glob("*.toml")), ids=lambda path: path.stem)
def test_presets_are_options_of_a_comparison(preset: Path) -> None:
    config = cli.parse(CompareConfig, "compare", ["--config", str(preset), *REQUIRED])
    assert config != cli.parse(CompareConfig, "compare", REQUIRED)


def test_a_written_comparison_is_read_back(tmp_path: Path) -> None:
    config = CompareConfig(
        Path("data"),
        Path("out"),
        arms=("sum", "mean", "multibalance:beta=0.1,prior=0.5/0.5"),
        seeds=2,
        planned_seeds=5,
        task_weights=("click=1", "like=0.5"),
    )
    file = tmp_path / "config.json"
    file.write_text(json.dumps(cli.as_dict(config)))
    assert cli.parse(CompareConfig, "compare", [f"--config={file}"]) == config


TOML = """
data = "data"
out = "out"
batch_size = 64
bf16 = true
arms = ["sum", "multibalance:beta=0.1"]

[model]
interaction = "dcn"
head_mlp = []
over_mlp = [32, 16]

[model.embedding_dims]
user_id = 4

[optimizer]
table_lr = 0.5

[optimizer.table_schedule]
warmup_steps = 10

[sharding]
kinds = ["row_wise", "table_wise"]
"""
JSON = {
    "data": "data",
    "out": "out",
    "batch_size": 64,
    "bf16": True,
    "arms": ["sum", "multibalance:beta=0.1"],
    "model": {"interaction": "dcn", "head_mlp": [], "over_mlp": [32, 16], "embedding_dims": {"user_id": 4}},
    "optimizer": {"table_lr": 0.5, "table_schedule": {"warmup_steps": 10}},
    "sharding": {"kinds": ["row_wise", "table_wise"]},
}
COMMAND_LINE = [
    *REQUIRED,
    *("--batch-size", "64", "--bf16", "True", "--arms", "sum", "multibalance:beta=0.1"),
    *("--model.interaction", "dcn", "--model.head-mlp", "--model.over-mlp", "32", "16"),
    *("--model.embedding-dims", "user_id", "4", "--optimizer.table-lr", "0.5"),
    *("--optimizer.table-schedule.warmup-steps", "10", "--sharding.kinds", "row_wise", "table_wise"),
]


@pytest.fixture(params=["toml", "json"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same options in either form."""
    path = tmp_path / f"options.{request.param}"
    path.write_text(TOML if request.param == "toml" else json.dumps(JSON))
    return path


def test_files_and_the_command_line_say_the_same(file: Path) -> None:
    by_file = cli.parse(CompareConfig, "compare", ["--config", str(file)])
    assert by_file == cli.parse(CompareConfig, "compare", COMMAND_LINE)
    assert by_file.model.embedding_dims == {"user_id": 4}
    assert by_file.optimizer.table_schedule.warmup_steps == 10


@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        (["--batch-size", "9"], "batch_size", 9),
        (["--batch_size=9"], "batch_size", 9),
        (["--bf16", "False"], "bf16", False),
        (["--arms", "mean", "sum", "static:weights=1/2"], "arms", ("mean", "sum", "static:weights=1/2")),
        (["--model.over-mlp"], "model.over_mlp", ()),
        (["--model.head_mlp", "7"], "model.head_mlp", (7,)),
        (["--model.embedding-dims", "item", "8"], "model.embedding_dims", {"item": 8}),
        (["--max-steps", "3"], "max_steps", 3),
    ],
)
def test_the_command_line_wins_over_the_file(file: Path, arguments: list[str], name: str, expected: Any) -> None:
    by_file = leaves(cli.parse(CompareConfig, "compare", ["--config", str(file)]))
    found = leaves(cli.parse(CompareConfig, "compare", ["--config", str(file), *arguments]))
    assert by_file[name] != expected
    assert found == by_file | {name: expected}


WRONG_OPTIONS = [
    ('{"modle": {"interaction": "dcn"}}', "unknown option 'modle'"),
    ('{"batch": 3}', "unknown option 'batch'"),
    ('{"model": {"interacton": "dcn"}}', "unknown option 'model.interacton'"),
    ('{"optimizer": {"dense_schedule": {"steps": 5}}}', "unknown option 'optimizer.dense_schedule.steps'"),
    ('{"batch_size": 3, "batch_size": 4}', "key 'batch_size' occurs twice"),
    ('{"batch_size": 3, "batch-size": 4}', "option 'batch-size' occurs twice"),
    ('{"batch_size": ["3", "--seeds", "7"]}', "batch_size: "),
    ('{"batch_size": "3"}', "batch_size: '3', expected int"),
    ('{"batch_size": 3.0}', "batch_size: 3.0, expected int"),
    ('{"batch_size": true}', "batch_size: True, expected int"),
    ('{"batch_size": null}', "batch_size: None, expected int"),
    ('{"bf16": "yes"}', "bf16: 'yes', expected bool"),
    ('{"out": ["a", "--seeds", "7"]}', "out: "),
    ('{"out": 5}', "out: 5, expected str"),
    ('{"out": "--seeds"}', "out: '--seeds', expected a text that does not begin with '-'"),
    ('{"arms": "mean"}', "arms: "),
    ('{"arms": ["mean", "sum", "--seeds", "7"]}', "arms: '--seeds', expected a text that does not begin with '-'"),
    ('{"arms": ["mean", ["sum"]]}', "arms[1]: "),
    ('{"model": "dcn"}', "model: expected an object"),
    ('{"model": {"interaction": "--seeds"}}', "model.interaction: '--seeds', expected a text"),
    ('{"model": {"embedding_dims": {"--seeds": 7}}}', "model.embedding_dims: '--seeds', expected a text"),
    ('{"model": {"embedding_dims": {"user": "7"}}}', "model.embedding_dims.user: '7', expected int"),
    ('{"optimizer": {"table_lr": [0.1]}}', "optimizer.table_lr: "),
    ('{"optimizer": {"table_lr": NaN}}', "not valid JSON"),
    ('{"--seeds": 7}', "unknown option '--seeds'"),
    ("[" * 100_000, "not valid JSON"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_OPTIONS)
def test_a_wrong_option_in_a_file_is_named_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "options.json"
    path.write_text(text)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        cli.parse(CompareConfig, "compare", [*REQUIRED, "--config", str(path)])
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_misspelt_option_in_toml_is_named_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text('[model]\ninteracton = "dcn"\n')
    with pytest.raises(ValueError, match=naming("options.toml", "'model.interacton'", "model.interaction")):
        cli.parse(CompareConfig, "compare", [*REQUIRED, "--config", str(path)])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent.toml", None, "absent.toml: not found"),
        ("broken.toml", "batch_size = ", "broken.toml: not valid TOML"),
        ("broken.json", "{", "broken.json: not valid JSON"),
        ("list.json", "[1]", "list.json: expected an object, found list"),
    ],
)
def test_an_unreadable_file_ends_with_2_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, message: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as end:
        cli.run("train", lambda: print(cli.parse(TrainConfig, "train", [*REQUIRED, "--config", str(path)])))
    assert end.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("train: ")
    assert message in line


@pytest.mark.parametrize("arguments", [[*REQUIRED, "--config"], ["--config="]])
def test_config_needs_a_file(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=naming("--config", "file")):
        cli.parse(TrainConfig, "train", arguments)
