"""Batch scripts for Slurm: those that docs/launching/slurm.md shows, overlays, containers, variables."""

import re
import shlex
from pathlib import Path

import pytest

from tests.launching.dry_runs import batch_script
from tests.messages import naming
from tests.pages import ROOT, blocks

PAGE = ROOT / "docs/launching/slurm.md"
EXAMPLES = re.findall(r"^```sh\n(torchx run .*)\n```\n\n```text\n((?:.+\n)+)```$", PAGE.read_text(), flags=re.MULTILINE)
TRAIN = "torchx run -s slurm components/train.py:train"
DATA = "-- --data DIR --out RUN"


@pytest.fixture(autouse=True)
def _launched_beside_the_pages_overlay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "components").symlink_to(ROOT / "components")
    overlay, _ = blocks(PAGE, "bash")
    (tmp_path / "site.sbatch").write_text(overlay)
    monkeypatch.chdir(tmp_path)


def sbatch_lines(script: str) -> list[str]:
    return [line for line in script.splitlines() if line.startswith("#SBATCH --")]


def srun_words(script: str) -> list[str]:
    """The words of the script's srun, for its first node."""
    text = script[script.index("\nsrun ") : script.index("\nexitcode=")]
    words = shlex.split(text)
    return words[: words.index(":")] if ":" in words else words


def test_every_launch_on_the_page_has_its_dry_run() -> None:
    assert PAGE.read_text().count("\ntorchx run -s slurm") == len(EXAMPLES) == 9


@pytest.mark.parametrize(("command", "excerpt"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_pages_dry_runs(command: str, excerpt: str) -> None:
    script = batch_script(command)
    for line in excerpt.splitlines():
        pattern = ".*".join(re.escape(part) for part in line.split(" ..."))
        assert re.search(f"^{pattern}", script, flags=re.MULTILINE), script
    assert len({re.sub(r"--job-name=\S+", "", line) for line in sbatch_lines(script)}) == 1, (
        "all nodes ask for the same"
    )


def test_values_of_variables_are_whole() -> None:
    words = srun_words(batch_script(f"{TRAIN} -j 2x1 --env NCCL_IB_HCA=mlx5_0,mlx5_1,B='1 $2' {DATA}"))
    assert not [word for word in words if word.startswith("--export")]
    assert {"NCCL_IB_HCA=mlx5_0,mlx5_1", "B=1 $2", "OMP_NUM_THREADS=1"} <= set(words[words.index("env") :])


def test_the_script_does_not_print_variables() -> None:
    settings = re.findall(r"^set (.*)$", batch_script(f"{TRAIN} {DATA}"), flags=re.MULTILINE)
    assert settings
    assert not [options for options in settings if "x" in options or "v" in options]
    with pytest.raises(ValueError, match="WANDB_API_KEY"):
        batch_script(f"{TRAIN} --env WANDB_API_KEY=0123 {DATA}")


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        ("#SBATCH -A rec -q high -p big", {"--account=rec", "--qos=high", "--partition=big"}),
        ("#SBATCH --gpus-per-node h100:8 --no-requeue", {"--gpus-per-node=h100:8", "--no-requeue", "--requeue"}),
        ("# site\n\n#SBATCH --gres=nvme:1 # scratch\n", {"--gres=nvme:1", "--gpus-per-node=1"}),
        ("#SBATCH -wn1 --mem=0", {"--nodelist=n1", "--mem=0"}),
        ('#SBATCH --comment="two words"', {"--comment='two words'"}),
    ],
)
def test_lines_of_an_overlay(lines: str, options: set[str]) -> None:
    Path("own.sbatch").write_text(lines)
    without = batch_script(f"{TRAIN} -j 2x1 --gpu 1 {DATA}")
    script = batch_script(f"{TRAIN} -j 2x1 --gpu 1 --overlay own.sbatch {DATA}")
    for line, plain in zip(sbatch_lines(script), sbatch_lines(without), strict=True):
        names = {option.partition("=")[0] for option in options}
        unchanged = {word for word in plain.split() if word.partition("=")[0] not in names}
        words = set(re.findall(r"--[\w-]+(?:='[^']*'|=\S+)?", line))
        assert words == {word for word in unchanged if word != "#SBATCH"} | options


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("#SBATCH --ntasks=4", r"line 1: ntasks is set by -j"),
        ("\n#SBATCH -c 4", r"line 2: c is set by --cpu"),
        ("#SBATCH --export=ALL", "--env"),
        ("#SBATCH hetjob", "'hetjob'"),
        ("#SBATCH -Z 1", "-Z"),
        ("srun hostname", "'srun hostname'"),
        ("#SBATCH --comment='a", "quotation"),
    ],
)
def test_overlays_that_are_refused(lines: str, message: str) -> None:
    Path("own.sbatch").write_text(lines)
    with pytest.raises(ValueError, match=f"own.sbatch.*{message}"):
        batch_script(f"{TRAIN} --overlay own.sbatch {DATA}")


def test_an_overlay_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"nothing\.sbatch"):
        batch_script(f"{TRAIN} --overlay nothing.sbatch {DATA}")


@pytest.mark.parametrize(
    ("image", "container"),
    [
        ("dlrm-mtl:0.1", "dlrm-mtl:0.1"),
        ("user/dlrm-mtl:0.1", "user/dlrm-mtl:0.1"),
        ("host:5000/a/dlrm-mtl", "host:5000#a/dlrm-mtl"),
        ("nvcr.io#nvidia/pytorch", "nvcr.io#nvidia/pytorch"),
        ("/images/a.b/dlrm-mtl.sqsh", "/images/a.b/dlrm-mtl.sqsh"),
        ("./dlrm-mtl.sqsh", "./dlrm-mtl.sqsh"),
    ],
)
def test_images_as_enroot_names_them(image: str, container: str) -> None:
    assert f"--container-image={container}" in srun_words(batch_script(f"{TRAIN} --image {image} {DATA}"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--mounts type=bind,src=/a,dst=/b", ["mounts", "image"]),
        ("--image a.sif --mounts type=volume,src=claim,dst=/b", ["claim", "type=bind"]),
    ],
)
def test_mounts_that_are_refused(options: str, words: list[str]) -> None:
    with pytest.raises(ValueError, match=naming(*words)):
        batch_script(f"{TRAIN} {options} {DATA}")


def test_the_port_follows_from_the_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def port(more: str = "", options: str = "") -> str:
        script = batch_script(f"{TRAIN} -j 2x1 {options} {DATA} {more}")
        [endpoint] = set(re.findall(r"--rdzv_endpoint \S+:(\d+)", script))
        return str(endpoint)

    assert port() == port()
    others = {port(), *(port(f"--seed {seed}") for seed in range(1, 3))}
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "components").symlink_to(ROOT / "components")
    monkeypatch.chdir(tmp_path / "elsewhere")
    others.add(port())
    assert len(others) == 4
    assert all(20000 <= int(other) < 30000 for other in others)
    assert port(options="--rdzv_port 29511") == "29511"
