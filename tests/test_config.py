"""The configuration: ranges, files, the command line, and a ``--help`` that is quick."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl import cli
from dlrm_mtl.config import (
    CheckpointConfig,
    CommsConfig,
    CompareConfig,
    ModelConfig,
    OptimizerConfig,
    ReaderConfig,
    RunConfig,
    ScheduleConfig,
    ShardingConfig,
    TrainConfig,
)

REQUIRED = ["--data", "data", "--out", "out"]
NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def _end_by_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is run within this process must not end it."""
    monkeypatch.setattr(cli, "end_process", sys.exit)


CHANGED = TrainConfig(
    data=Path("some data"),
    out=Path("/some/out"),
    batch_size=96,
    epochs=3,
    max_steps=7,
    eval_every=5,
    log_every=4,
    warmup_windows=0,
    loss_reduction="defined",
    bf16=True,
    tf32=True,
    on_bad_shard="skip",
    check="footers",
    max_nonfinite_steps=3,
    init_from=Path("runs/other/checkpoints/step-00000010"),
    checkpoint=CheckpointConfig(every_steps=100, every_minutes=2.5, keep=3),
    show_plan=True,
    timeout_s=60,
    model=ModelConfig(
        interaction="low_rank_dcn",
        embedding_dim=8,
        embedding_dims={"user_id": 4, "item": 12},
        bottom_mlp=(),
        cross_layers=3,
        cross_rank=5,
        deep_mlp=(9,),
        projection_sizes=(2, 3),
        over_mlp=(17, 5),
        head_mlp=(),
    ),
    optimizer=OptimizerConfig(
        table="sgd",
        table_lr=1e-7,
        table_eps=1e-5,
        dense="adamw",
        dense_lr=0.25,
        weight_decay=0.5,
        clip_norm=2.5,
        table_schedule=ScheduleConfig(3, 4, 5, 0.5),
        dense_schedule=ScheduleConfig(1, 2, 6, 0.125),
    ),
    sharding=ShardingConfig(
        ("table_wise", "column_wise"), 0.5, 4, ("fused_uvm_caching",), 0.1, True, CommsConfig("fp16", "bf16")
    ),
    reader=ReaderConfig(2, 3, 1000),
    arm="multibalance:beta=0.1,prior=0.2/0.8",
    seed=11,
)
"""A configuration none of whose values is the default."""


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every value of a configuration, by dotted name."""
    values: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            values |= leaves(value, f"{prefix}{field.name}.")
        else:
            values[prefix + field.name] = value
    return values


def compare_config(**changes: Any) -> CompareConfig:
    return CompareConfig(Path("data"), Path("out"), **changes)


def run_config(**changes: Any) -> RunConfig:
    return RunConfig(Path("data"), Path("out"), **changes)


OUT_OF_RANGE: list[tuple[Callable[..., Any], str, str, list[Any]]] = [
    (run_config, "batch_size", "batch_size", [0, -1]),
    (run_config, "epochs", "epochs", [0]),
    (run_config, "max_steps", "max_steps", [0, -3]),
    (run_config, "eval_every", "eval_every", [0]),
    (run_config, "log_every", "log_every", [0]),
    (run_config, "warmup_windows", "warmup_windows", [-1]),
    (run_config, "max_nonfinite_steps", "max_nonfinite_steps", [0]),
    (run_config, "timeout_s", "timeout_s", [0]),
    (compare_config, "seeds", "seeds", [0]),
    (compare_config, "arms", "arms", [(), ("mean",), ("mean", "sum", "mean")]),
    (ModelConfig, "embedding_dim", "model.embedding_dim", [0, -4, 6]),
    (lambda **kw: ModelConfig("dcn", **kw), "embedding_dims", "model.user", [{"user": 6}, {"item": 8, "user": 0}]),
    (ModelConfig, "bottom_mlp", "model.bottom_mlp", [(0,), (8, -1)]),
    (ModelConfig, "over_mlp", "model.over_mlp", [(0,)]),
    (ModelConfig, "head_mlp", "model.head_mlp", [(8, 0)]),
    (ModelConfig, "deep_mlp", "model.deep_mlp", [(0,), ()]),
    (ModelConfig, "projection_sizes", "model.projection_sizes", [(0, 8)]),
    (ModelConfig, "cross_layers", "model.cross_layers", [0]),
    (ModelConfig, "cross_rank", "model.cross_rank", [0]),
    (ScheduleConfig, "warmup_steps", "schedule.warmup_steps", [-1]),
    (ScheduleConfig, "decay_start", "schedule.decay_start", [-1]),
    (ScheduleConfig, "decay_steps", "schedule.decay_steps", [-1]),
    (ScheduleConfig, "final_scale", "schedule.final_scale", [-0.1, 1.1, NAN]),
    (OptimizerConfig, "table_lr", "optimizer.table_lr", [0.0, -1.0, NAN, INFINITY]),
    (OptimizerConfig, "dense_lr", "optimizer.dense_lr", [0.0, NAN]),
    (OptimizerConfig, "table_eps", "optimizer.table_eps", [0.0, INFINITY]),
    (OptimizerConfig, "weight_decay", "optimizer.weight_decay", [-0.1, NAN]),
    (OptimizerConfig, "clip_norm", "optimizer.clip_norm", [0.0, -1.0, NAN]),
    (ShardingConfig, "reserve", "sharding.reserve", [-0.1, 1.0, NAN]),
    (ShardingConfig, "min_partition", "sharding.min_partition", [0]),
    (ShardingConfig, "cache_load_factor", "sharding.cache_load_factor", [0.0, -0.1, 1.1, NAN]),
    (ReaderConfig, "workers", "reader.workers", [-1]),
    (ReaderConfig, "prefetch", "reader.prefetch", [0]),
    (ReaderConfig, "shuffle_rows", "reader.shuffle_rows", [0]),
]


@pytest.mark.parametrize(
    ("kind", "field", "named", "value"),
    [(kind, field, named, value) for kind, field, named, values in OUT_OF_RANGE for value in values],
)
def test_a_value_out_of_range_is_named(kind: Callable[..., Any], field: str, named: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{named} is .*, expected ") as error:
        kind(**{field: value})
    shown = value["user"] if isinstance(value, dict) else value
    assert repr(shown) in str(error.value)


def test_decay_before_the_end_of_the_warmup_is_refused() -> None:
    ScheduleConfig(warmup_steps=5, decay_start=2)
    with pytest.raises(ValueError, match=r"schedule\.decay_start is 2, expected warmup_steps or more"):
        ScheduleConfig(warmup_steps=5, decay_start=2, decay_steps=1)


@pytest.mark.parametrize("interaction", ["dot", "projection"])
def test_one_dimension_where_the_interaction_needs_one(interaction: Any) -> None:
    ModelConfig(interaction, embedding_dim=8, embedding_dims={"user": 8})
    with pytest.raises(ValueError, match=rf"embedding_dims is \{{'item': 4\}}.*embedding_dim=8.*{interaction}"):
        ModelConfig(interaction, embedding_dim=8, embedding_dims={"user": 8, "item": 4})


def test_local_batch_size() -> None:
    assert run_config(batch_size=12).local_batch_size(3) == 4
    with pytest.raises(ValueError, match="batch_size is 12, expected a multiple of the 5 ranks"):
        run_config(batch_size=12).local_batch_size(5)


def test_the_changed_configuration_has_no_default_left() -> None:
    defaults = leaves(TrainConfig(Path("data"), Path("out")))
    changed = leaves(CHANGED)
    assert [name for name, value in changed.items() if value == defaults[name]] == []


@pytest.mark.parametrize("config", [CHANGED, TrainConfig(Path("data"), Path("out"))], ids=["changed", "default"])
def test_a_written_configuration_is_read_back(tmp_path: Path, config: TrainConfig) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(cli.as_dict(config)))
    assert cli.parse(TrainConfig, "train", ["--config", str(file)]) == config


def test_a_written_comparison_is_read_back(tmp_path: Path) -> None:
    config = compare_config(arms=("sum", "mean", "multibalance:beta=0.1,prior=0.5/0.5"), seeds=2)
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


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([*REQUIRED, "--nope", "3"], "--nope"),
        ([*REQUIRED, "--model.nope", "3"], "--model.nope"),
        ([*REQUIRED, "--batch-size", "many"], "--batch-size"),
        ([*REQUIRED, "--model.interaction", "cross"], "--model.interaction"),
        ([*REQUIRED, "--model.embedding-dim", "5"], "model.embedding_dim"),
        ([*REQUIRED, "--seeds", "0"], "seeds is 0"),
        (["--data", "data"], "--out"),
    ],
)
def test_a_wrong_option_ends_with_2_and_is_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run("compare", lambda: print(cli.parse(CompareConfig, "compare", arguments)))
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert named in captured.err


WRONG_OPTIONS = [
    ('{"modle": {"interaction": "dcn"}}', "unknown option 'modle'"),
    ('{"batch": 3}', "unknown option 'batch'"),
    ('{"model": {"interacton": "dcn"}}', "unknown option 'model.interacton'"),
    ('{"optimizer": {"dense_schedule": {"steps": 5}}}', "unknown option 'optimizer.dense_schedule.steps'"),
    ('{"batch_size": 3, "batch_size": 4}', "key 'batch_size' stands twice"),
    ('{"batch_size": 3, "batch-size": 4}', "option 'batch-size' stands twice"),
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
    ('{"model": {"interaction": "--seeds"}}', "model.interaction: '--seeds', expected dot or"),
    ('{"model": {"embedding_dims": {"--seeds": 7}}}', "model.embedding_dims: '--seeds', expected a text"),
    ('{"model": {"embedding_dims": {"user": "7"}}}', "model.embedding_dims.user: '7', expected int"),
    ('{"optimizer": {"table_lr": [0.1]}}', "optimizer.table_lr: "),
    ('{"optimizer": {"table_lr": NaN}}', "no valid JSON"),
    ('{"--seeds": 7}', "unknown option '--seeds'"),
    ("[" * 100_000, "no valid JSON"),
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
    with pytest.raises(
        ValueError, match=r"options\.toml: unknown option 'model\.interacton', expected one of .*interaction"
    ):
        cli.parse(CompareConfig, "compare", [*REQUIRED, "--config", str(path)])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent.toml", None, "absent.toml: not found"),
        ("broken.toml", "batch_size = ", "broken.toml: no valid TOML"),
        ("broken.json", "{", "broken.json: no valid JSON"),
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
    with pytest.raises(ValueError, match="--config needs a file"):
        cli.parse(TrainConfig, "train", arguments)


def test_the_parser_speaks_on_the_first_rank_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as end:
        cli.parse(TrainConfig, "train", [*REQUIRED, "--nope"])
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_other_errors_keep_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise RuntimeError("a defect")

    with pytest.raises(SystemExit) as end:
        cli.run("train", fail)
    assert end.value.code == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "RuntimeError: a defect" in shown


HELP = """
import sys
from {module} import main
sys.argv = ["program", "--help"]
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
slow = sorted({{"torch", "torchrec", "fbgemm_gpu", "scipy", "tensorboard"}} & set(sys.modules))
assert not slow, slow
"""


@pytest.mark.parametrize("module", ["dlrm_mtl.train", "dlrm_mtl.compare"])
def test_help_does_without_torch(module: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", HELP.format(module=module)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    for option in ("--config FILE", "--model.interaction", "--optimizer.table-schedule.warmup-steps", "--log-every"):
        assert option in result.stdout
