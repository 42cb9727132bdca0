"""Raw rows to probabilities, by an export."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dlrm_mtl.meaning import TableFingerprint
from dlrm_mtl.serving import Scorer
from dlrm_mtl.serving.manifest import ENCODING, read_manifest, write_manifest
from dlrm_mtl.serving.raw_inputs import RawInputs
from tests.entry_points.processes import run
from tests.messages import naming
from tests.serving.raw_export import RawExport

pd = pytest.importorskip("pandas")

ABSENT = ("torchrec", "tyro", "tqdm", "tensordict", "tensorboard", "iopath", "fbgemm_gpu")
"""What scoring does without."""

ELSEWHERE = """
import sys
sys.modules.update(dict.fromkeys({absent!r}))
import json
from pathlib import Path
from dlrm_mtl.serving import Scorer
print(json.dumps(Scorer(Path(sys.argv[1])).score(json.loads(sys.argv[2])).to_pydict()))
"""


@pytest.fixture(scope="module")
def scorer(raw_export: RawExport) -> Scorer:
    return Scorer(raw_export.directory)


def test_raw_rows_get_the_trained_model_s_probabilities(scorer: Scorer, raw_export: RawExport) -> None:
    scores = scorer.score(raw_export.rows)
    assert scores.schema.names == list(scorer.outputs) == ["ctr", "cvr", "ctr_and_cvr"]
    assert set(scores.schema.types) == {pa.float32()}
    expected = raw_export.probabilities
    for name, of_task in zip(scorer.outputs, (*expected.T, expected.prod(axis=1)), strict=True):
        np.testing.assert_allclose(scores[name], of_task, rtol=0, atol=1e-6)
    before = scorer.unseen["word"]
    scorer.score([{**raw_export.rows[0], "word": "another"}])
    assert scorer.unseen["word"] == before + 1


def test_rows_come_in_any_form(scorer: Scorer, raw_export: RawExport) -> None:
    rows = raw_export.rows
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
    for number, row in enumerate(rows[:9]):
        for name, value in scorer.score([row]).to_pylist()[0].items():
            assert value == pytest.approx(expected[name][number].as_py(), abs=1e-6)
    assert scorer.score([]).num_rows == scorer.score(table.slice(0, 0)).num_rows == 0


def test_many_rows_are_scored_in_parts(scorer: Scorer, raw_export: RawExport, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = scorer.score(raw_export.rows)
    monkeypatch.setattr("dlrm_mtl.serving.raw_inputs.CHUNK_ROWS", 7)
    for name in scorer.outputs:
        np.testing.assert_allclose(scorer.score(raw_export.rows)[name], expected[name], rtol=0, atol=1e-6)


def test_torch_pyarrow_and_numpy_are_enough(scorer: Scorer, raw_export: RawExport) -> None:
    program = ELSEWHERE.format(absent=ABSENT)
    process = run(sys.executable, "-c", program, raw_export.directory, json.dumps(raw_export.rows))
    assert process.returncode == 0, process.stderr
    for name, probabilities in json.loads(process.stdout).items():
        np.testing.assert_allclose(probabilities, scorer.score(raw_export.rows)[name], rtol=0, atol=1e-7)


def test_an_export_without_an_encoding_is_refused(raw_export: RawExport, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(raw_export.directory, tmp_path / "export"))
    manifest = read_manifest(directory)
    files = {name: file for name, file in manifest.files.items() if not name.startswith(ENCODING)}
    write_manifest(replace(manifest, files=files), directory)
    with pytest.raises(ValueError, match=naming(directory, "encoding.json")):
        Scorer(directory)


def test_an_encoding_of_another_data_set_is_refused(raw_export: RawExport) -> None:
    """Although its files are whole."""
    manifest = read_manifest(raw_export.directory)
    tables = {**manifest.fingerprints.tables, "word": TableFingerprint("vocabulary", 33, sha256="0" * 64)}
    meaning = replace(manifest, fingerprints=replace(manifest.fingerprints, tables=tables)).meaning
    with pytest.raises(ValueError, match=naming("encoding.json", "table 'word'", "0000000000000000")):
        RawInputs(raw_export.directory / ENCODING, meaning)
