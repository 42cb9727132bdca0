"""User-given names as names of modules and files."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from dlrm_mtl.ending import describe
from dlrm_mtl.file_names import MAX_BYTES, file_names
from dlrm_mtl.module_names import belongs_to, escape, head_name, table_name, table_of, unescape

ATTRIBUTES = dir(EmbeddingBagCollection([EmbeddingBagConfig(name="t", num_embeddings=1, embedding_dim=4)]))
names = st.text(min_size=1).filter(lambda name: not any("\ud800" <= letter <= "\udfff" for letter in name)) | (
    st.sampled_from(dir(nn.ModuleDict()) + ATTRIBUTES) | st.text("%.@/aA27-", min_size=1)
)


@given(st.lists(names, unique=True))
@example(["type", "%74ype", "%2574ype", "a.b", "a%2Eb", "a/b", "a@b", "..", "%", "items", "_modules"])
def test_every_name_is_one_of_a_module(names: list[str]) -> None:
    escaped = [escape(name) for name in names]
    assert [unescape(name) for name in escaped] == names
    assert list(nn.ModuleDict({name: nn.Identity() for name in escaped})) == escaped
    assert not set("./@") & set("".join(escaped))


@given(st.lists(names, min_size=1, unique=True), st.lists(names, unique=True))
@example(["user", "user%of_task_click"], ["click", "click%second"])
def test_every_own_table_has_a_name_of_its_own(tables: list[str], tasks: list[str]) -> None:
    found = {(table, task): table_name(table, head_name(task)) for table in tables for task in tasks}
    shared = [table_name(table) for table in tables]
    assert len({*found.values(), *shared}) == len(found) + len(shared)
    assert not set("./@") & set("".join(found.values()))
    for (table, task), name in found.items():
        assert table_of(name) == table
        assert [each for each in tasks if belongs_to(f"{name}.weight", [each])] == [task]


@given(st.text(string.ascii_letters + string.digits + "_- :,=|é点"))
def test_ordinary_names_stay(name: str) -> None:
    assert escape(f"x{name}") == f"x{name}"


@given(st.lists(names, unique=True))
@example(["User", "user", "USER", "a/b", "a:b", "a-b", ".", "..", "ß", "SS", "é", "e\u0301", "\u0130", "a\0b"])
@example(["user", "User", *file_names(["user", "User"]).values()])
@example(["x" * 300, "x" * 301, "点" * 100, "点" * 101, "a" * 200, "a" * 201])
def test_every_name_has_a_file_of_its_own(names: list[str]) -> None:
    files = list(file_names(names).values())
    assert len({file.casefold() for file in files}) == len(names)
    for file in files:
        assert 0 < len(file.encode()) <= MAX_BYTES
        assert file[0] != "."
        assert not set('/\\:*?"<>|\0\n') & set(file)


@pytest.mark.parametrize(
    ("name", "file"),
    [("user", "user"), ("user.id", "user.id"), ("点击", "点击"), ("static:weights=0.5/0.5", "static-weights=0.5-0.5")],
)
def test_ordinary_files_are_called_by_the_name(name: str, file: str) -> None:
    assert file_names([name, "other"])[name] == file


def test_what_ends_a_process_cannot_steer_the_terminal() -> None:
    said = describe(ValueError("log\x1b[2J.csv: column 'a\u202eb'\r is missing"))
    assert said.isprintable()
    assert said.startswith(r"log\x1b[2J.csv: column 'a\u202eb'")
