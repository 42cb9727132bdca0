"""The command line: wrong options, messages at the end, and a quick ``--help``."""

import errno
import subprocess
import sys

import pytest

from dlrm_mtl import cli
from dlrm_mtl.run_config import CompareConfig, TrainConfig
from tests.configurations import REQUIRED


@pytest.fixture(autouse=True)
def _end_by_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point that runs in this process must not end it."""
    monkeypatch.setattr(cli, "end_process", sys.exit)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([*REQUIRED, "--nope", "3"], "--nope"),
        ([*REQUIRED, "--model.nope", "3"], "--model.nope"),
        ([*REQUIRED, "--batch-size", "many"], "--batch-size"),
        ([*REQUIRED, "--model.interaction", "cross"], "model.interaction is 'cross'"),
        ([*REQUIRED, "--model.sharing", "experts"], "model.sharing is 'experts'"),
        ([*REQUIRED, "--model.relation", "esm3"], "model.relation is 'esm3'"),
        ([*REQUIRED, "--model.own-experts", "0"], "model.own_experts is 0"),
        ([*REQUIRED, "--model.expert-mlp", "8", "-8"], "model.expert_mlp is (8, -8)"),
        ([*REQUIRED, "--model.gate-mlp", "0"], "model.gate_mlp is (0,)"),
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


@pytest.mark.parametrize("error", [OSError(errno.ESTALE, "stale"), ConnectionError("rank 0 does not listen")])
def test_an_error_of_the_network_is_one_line_upon_which_launchers_try_again(
    capsys: pytest.CaptureFixture[str], error: OSError
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        cli.run("train", fail)
    assert end.value.code == 1
    assert capsys.readouterr().err == f"train: {error}\n"


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
