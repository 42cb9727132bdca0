"""The run directory: the same run continues, another one is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl import cli
from dlrm_mtl.config import CheckpointConfig, ModelConfig, ReaderConfig, ShardingConfig
from dlrm_mtl.run_config import CompareConfig, TrainConfig
from dlrm_mtl.run_directory import describe_environment, open_run_directory
from tests.messages import naming


def config(out: Path, **changes: Any) -> CompareConfig:
    return CompareConfig(Path("data"), out, **changes)


def test_a_new_directory_gets_the_complete_configuration(tmp_path: Path) -> None:
    run = config(tmp_path / "deep" / "run", seeds=2)
    open_run_directory(run)
    file = run.out / "config.json"
    assert json.loads(file.read_text()) == cli.as_dict(run)
    assert cli.parse(CompareConfig, "compare", ["--config", str(file)]) == run
    assert [path.name for path in run.out.iterdir()] == ["config.json"]


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    open_run_directory(config(tmp_path))
    assert (tmp_path / "config.json").is_file()


@pytest.mark.parametrize("text", ["5", "[]", "null", "{", "[" * 10_000])
def test_what_is_no_configuration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json: "):
        open_run_directory(config(tmp_path))


def test_the_same_run_goes_on(tmp_path: Path) -> None:
    run = config(tmp_path / "run", model=ModelConfig("dcn", embedding_dims={"user": 4}))
    open_run_directory(run)
    (run.out / "seed-0.json").write_text("{}")
    before = (run.out / "config.json").read_text()
    open_run_directory(run)
    assert (run.out / "config.json").read_text() == before
    assert (run.out / "seed-0.json").is_file()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 64}, "batch_size=1024 where this one has 64"),
        ({"arms": ("mean", "sum")}, r"arms=\['mean', 'multibalance'\] where this one has \['mean', 'sum'\]"),
        ({"model": ModelConfig(head_mlp=(3,))}, r"model.head_mlp=\[64\] where this one has \[3\]"),
        ({"reader": ReaderConfig(shuffle_rows=7)}, "reader.shuffle_rows=131072 where this one has 7"),
    ],
)
def test_another_run_is_refused_by_the_difference(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    run = config(tmp_path / "run")
    open_run_directory(run)
    before = (run.out / "config.json").read_text()
    with pytest.raises(ValueError, match=rf"config.json.*{named}.*--out"):
        open_run_directory(replace(run, **change))
    assert (run.out / "config.json").read_text() == before


def test_a_run_goes_on_with_other_ways_of_doing_the_same(tmp_path: Path) -> None:
    run = config(tmp_path / "run")
    assert open_run_directory(run) == {}
    before = (run.out / "config.json").read_text()
    other = replace(
        run,
        data=Path("moved"),
        timeout_s=5,
        on_bad_shard="skip",
        reader=ReaderConfig(workers=2),
        sharding=ShardingConfig(kinds=("column_wise",)),
        checkpoint=CheckpointConfig(keep=9),
    )
    assert open_run_directory(other) == {
        "checkpoint.keep": 9,
        "data": "moved",
        "on_bad_shard": "skip",
        "reader.workers": 2,
        "sharding.kinds": ["column_wise"],
        "timeout_s": 5,
    }
    assert (run.out / "config.json").read_text() == before


def test_options_that_are_newer_than_the_run_had_their_defaults(tmp_path: Path) -> None:
    open_run_directory(config(tmp_path))
    file = tmp_path / "config.json"
    values = json.loads(file.read_text())
    del values["log_every"], values["model"]["over_mlp"]
    file.write_text(json.dumps(values))
    assert open_run_directory(config(tmp_path)) == {}
    with pytest.raises(ValueError, match=naming("log_every=10", 20)):
        open_run_directory(config(tmp_path, log_every=20))


def test_a_run_of_another_program_is_refused(tmp_path: Path) -> None:
    open_run_directory(config(tmp_path / "run"))
    with pytest.raises(ValueError, match=naming("arms")):
        open_run_directory(TrainConfig(Path("data"), tmp_path / "run"))


def test_a_foreign_directory_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("work")
    with pytest.raises(ValueError, match=naming("config.json", "--out")):
        open_run_directory(config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_broken_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"data": ')
    with pytest.raises(ValueError, match=naming("config.json", "JSON")):
        open_run_directory(config(tmp_path))


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr("sys.argv", ["/some/where/compare.py", "--data", "DIR"])
    found = describe_environment({"torch": "2.13.0"}, world_size=2, device="cpu")
    assert found.keys() == {
        *("time", "command", "python", "versions", "platform", "processor", "cpus"),
        *("world_size", "device", "threads_per_rank"),
    }
    assert found["command"] == ["compare.py", "--data", "DIR"]
    assert found["versions"] == {"torch": "2.13.0"}
    assert (found["world_size"], found["device"], found["threads_per_rank"]) == (2, "cpu", "3")
    json.dumps(found, allow_nan=False)
