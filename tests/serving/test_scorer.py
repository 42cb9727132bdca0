"""Raw rows to probabilities, by an export."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_prep.columns.layout import LabelColumn
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.meaning import TableFingerprint
from dlrm_mtl.schema import Task
from dlrm_mtl.serving.manifest import ENCODING, read_manifest, write_manifest
from dlrm_mtl.serving.options import ExportOptions
from dlrm_mtl.serving.raw_inputs import RawInputs
from dlrm_mtl.serving.scorer import Scorer
from dlrm_mtl.serving.writing import write_export
from tests.data_prep.logs import COLUMNS, LAYOUT, lines_of, run_prepare, write_log
from tests.distributed.training import run_config
from tests.entry_points.processes import run
from tests.inference.training import in_order, train_and_predict
from tests.messages import naming
from tests.ranks import RankPool

pd = pytest.importorskip("pandas")

ROWS, EVAL_ROWS = 600, 60
FUNNEL = replace(
    LAYOUT,
    labels=(LabelColumn("click"), LabelColumn("long", "unused", positive=("xxx", "xxxx"), missing_is_negative=True)),
    tasks=(Task("ctr", "click"), Task("cvr", "long", given="click")),
)

ABSENT = ("torchrec", "tyro", "tqdm", "tensordict", "tensorboard", "iopath", "fbgemm_gpu")
"""What scoring does without."""

ELSEWHERE = """
import sys
sys.modules.update(dict.fromkeys({absent!r}))
import json
from pathlib import Path
from dlrm_mtl.serving.raw_inputs import RawInputs
from dlrm_mtl.serving.scorer import Scorer
print(json.dumps(Scorer(Path(sys.argv[1])).score(json.loads(sys.argv[2])).to_pydict()))
"""


def raw_rows() -> list[dict[str, Any]]:
    """The rows of the eval split, as a program has them."""
    rows = []
    for line in lines_of(ROWS)[-EVAL_ROWS:]:
        row: dict[str, Any] = {name: text or None for name, text in zip(COLUMNS, line.split("\t"), strict=True)}
        row["count"], row["user"] = (None if row[name] is None else int(row[name]) for name in ("count", "user"))
        row["weight"] = None if row["weight"] is None else float(row["weight"])
        rows.append(row)
    return rows


@pytest.fixture(scope="module")
def exported(rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """An export, and the logits of the trained model on the eval split."""
    directory = tmp_path_factory.mktemp("scorer")
    run_prepare(write_log(directory / "log", lines_of(ROWS)), directory / "data", FUNNEL)
    model = ModelConfig(relation="esmm", embedding_dim=4, bottom_mlp=(6,), head_mlp=(5,))
    config = run_config(directory / "data", log_every=3, model=model)
    [[logits]] = rank_pool.run(1, train_and_predict, config, directory / "run", ["mean"])
    write_export(ExportOptions(directory / "run", directory / "export", data=directory / "data"))
    return directory / "export", in_order([logits])


@pytest.fixture(scope="module")
def scorer(exported: tuple[Path, Any]) -> Scorer:
    return Scorer(exported[0])


def test_raw_rows_get_the_trained_model_s_probabilities(scorer: Scorer, exported: tuple[Path, Any]) -> None:
    scores = scorer.score(raw_rows())
    expected = 1 / (1 + np.exp(-exported[1].astype(np.float64)))
    assert scores.schema.names == list(scorer.outputs) == ["ctr", "cvr", "ctr_and_cvr"]
    assert set(scores.schema.types) == {pa.float32()}
    np.testing.assert_allclose(scores["ctr"], expected[:, 0], atol=1e-6)
    np.testing.assert_allclose(scores["cvr"], expected[:, 1], atol=1e-6)
    np.testing.assert_allclose(scores[2], expected.prod(axis=1), atol=1e-6)
    assert scorer.unseen.keys() <= {"site", "user", "word", "tags"}


def test_rows_come_in_any_form(scorer: Scorer) -> None:
    rows = raw_rows()
    table = pa.Table.from_pylist(rows)
    expected = scorer.score(rows)
    forms = (
        [dict(reversed(row.items())) for row in rows],
        table.append_column("another", pa.nulls(len(rows))),
        table.to_batches()[0],
        pd.DataFrame(rows).set_index("site", drop=False),
    )
    for form in forms:
        assert scorer.score(form).equals(expected), type(form)
    assert pa.concat_tables(scorer.score([row]) for row in rows[:9]).to_pandas().to_numpy() == pytest.approx(
        expected.slice(0, 9).to_pandas().to_numpy(), abs=1e-6
    )
    assert scorer.score([]).num_rows == scorer.score(table.slice(0, 0)).num_rows == 0


def test_large_inputs_are_scored_in_parts(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = scorer.score(raw_rows())
    monkeypatch.setattr("dlrm_mtl.serving.raw_inputs.CHUNK_ROWS", 7)
    for name in scorer.outputs:
        np.testing.assert_allclose(scorer.score(raw_rows())[name], expected[name], atol=1e-7)


def test_torch_pyarrow_and_numpy_are_enough(scorer: Scorer, exported: tuple[Path, Any]) -> None:
    program = ELSEWHERE.format(absent=ABSENT)
    process = run(sys.executable, "-c", program, exported[0], json.dumps(raw_rows()))
    assert process.returncode == 0, process.stderr
    for name, probabilities in json.loads(process.stdout).items():
        np.testing.assert_allclose(probabilities, scorer.score(raw_rows())[name], atol=1e-7)


def test_an_export_without_an_encoding_is_refused(exported: tuple[Path, Any], tmp_path: Path) -> None:
    directory = Path(shutil.copytree(exported[0], tmp_path / "export"))
    manifest = read_manifest(directory)
    files = {name: file for name, file in manifest.files.items() if not name.startswith(ENCODING)}
    write_manifest(replace(manifest, files=files), directory)
    with pytest.raises(ValueError, match=naming(directory, "encoding.json")):
        Scorer(directory)


def test_an_encoding_of_another_data_set_is_refused(exported: tuple[Path, Any], tmp_path: Path) -> None:
    """Although its files are whole."""
    manifest = read_manifest(exported[0])
    tables = {**manifest.fingerprints.tables, "word": TableFingerprint("vocabulary", 33, sha256="0" * 64)}
    meaning = replace(manifest, fingerprints=replace(manifest.fingerprints, tables=tables)).meaning
    with pytest.raises(ValueError, match=naming("encoding.json", "table 'word'", "0000000000000000")):
        RawInputs(exported[0] / ENCODING, meaning)
