"""The commands of docs/storage.md."""

import shlex
import sys
from pathlib import Path

import pytest

from data_prep import criteo, describe
from dlrm_mtl import cli
from dlrm_mtl.location import RemotePath
from dlrm_mtl.run_config import TrainConfig
from tests.data_prep.logs import LAYOUT, lines_of, write_log, write_toml
from tests.pages import ROOT, commands
from tests.storage.s3_server import BUCKET, S3Server


def test_the_commands_run(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "logs/day_0", lines_of(300))
    write_log(tmp_path / "logs/day_1", lines_of(300, seed=1))
    s3.store(tmp_path / "logs", "logs")
    values = {
        "BUCKET": BUCKET,
        "LAYOUT": str(write_toml(tmp_path / "layout.toml", LAYOUT)),
        "WORK": str(tmp_path / "w"),
    }
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    prepare, describing, train = (
        [values.get(word, word.replace("BUCKET", BUCKET)) for word in shlex.split(line)[2:]]
        for line in commands(ROOT / "docs/storage.md")
    )
    for module, words in ((criteo, prepare), (describe, describing)):
        assert module.__name__ == words[0]
        monkeypatch.setattr(sys, "argv", words)
        module.main()
        assert f"s3://{BUCKET}/data" in capsys.readouterr().out or module is describe
    assert train[0] == "dlrm_mtl.train"
    config = cli.parse(TrainConfig, "train", train[1:])
    assert isinstance(config.data, RemotePath)
    assert (config.data / "schema.json").is_file()
    assert config.cache == Path("CACHE")
