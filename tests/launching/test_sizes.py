"""CPUs, GPUs and memory of a node, in the components."""

import pytest
import torchx.specs as specs
from torchx.specs.builders import materialize_appdef
from torchx.specs.finder import get_component

from tests.messages import naming
from tests.pages import ROOT

TRAINING = ["compare", "experiments", "stream", "train"]


def resource(name: str, arguments: str) -> specs.Resource:
    function = get_component(f"{ROOT}/components/{name}.py:{name}").fn
    [role] = materialize_appdef(function, arguments.split()).roles
    return role.resource


@pytest.mark.parametrize("name", TRAINING)
def test_training_on_gpus(name: str) -> None:
    size = resource(name, "-j 2x8 --gpu 8 -- --data D --out R")
    assert (size.cpu, size.gpu, size.memMB) == (32, 8, 131072)


@pytest.mark.parametrize(
    ("arguments", "cpus", "megabytes"),
    [
        ("-j 1x2 --", 2, 4096),
        ("-j 1:2x4 --gpu 4 --", 16, 65536),
        ("-j 2x8 --gpu 8 --cpu 96 --memMB 900000 --", 96, 900000),
        ("-j 2x8 --gpu 8 --cpu 96 --", 96, 131072),
        ("-j 2x8 --gpu 8 -- --reader.workers 4", 48, 163840),
        ("-j 2x8 --gpu 8 -- --reader.workers 0", 16, 98304),
        ("-j 1x2 -- --reader.workers 1", 4, 8192),
        ("-j 2x8 -h gpu.xlarge --", 64, 262144),
    ],
)
def test_a_node_has_what_its_processes_need(arguments: str, cpus: int, megabytes: int) -> None:
    size = resource("train", f"{arguments} --data D --out R")
    assert (size.cpu, size.memMB) == (cpus, megabytes)


def test_other_components() -> None:
    size = resource("predict", "-j 1x2 --gpu 2 -- --checkpoint C --data D --out R")
    assert (size.cpu, size.gpu, size.memMB) == (8, 2, 32768)
    size = resource("export", "-- --checkpoint C --out R")
    assert (size.cpu, size.gpu, size.memMB) == (1, 0, 2048)
    size = resource("prepare", "-j 2x2 -- --raw D --out R --workers 4")
    assert (size.cpu, size.gpu, size.memMB) == (10, 0, 20480)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("-j 2x8 --gpu 8 --cpu 1", ["cpu", "1", "8", "32"]),
        ("-j 2x8 --gpu 8 --memMB 4096", ["memMB", "4096", "16384", "131072"]),
        ("-j 2x8 --gpu 4", ["gpu", "4", "8"]),
        ("-j 1x8 --cpu 1", ["cpu", "1", "8"]),
        ("-j 1x8 --memMB 4096", ["memMB", "4096", "8192", "16384"]),
        ("-j 1x2 --cpu -2", ["cpu", "-2"]),
        ("-j 2x8 -h cpu.medium", ["cpu", "2", "'cpu.medium'", "8"]),
        ("-j 2x8 -h gpu.large", ["gpu", "4", "'gpu.large'", "8"]),
        ("-j 1x2 -h gpu.larg", ["h", "'gpu.larg'", "gpu.large"]),
        ("-j 1x4 -h gpu.large --gpu 4", ["h", "'gpu.large'", "gpu"]),
    ],
)
def test_what_cannot_work_is_refused(arguments: str, words: list[str]) -> None:
    with pytest.raises(ValueError, match=naming(*words)):
        resource("train", f"{arguments} -- --data D --out R")


def test_a_resource_that_leaves_its_size_open_is_taken() -> None:
    assert resource("train", "-h NULL -- --data D --out R") == specs.NULL_RESOURCE
