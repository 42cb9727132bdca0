"""The synthetic data set: reproducible, and distributed as its options say."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.generated.columns import CHUNK_ROWS
from data_prep.generated.day_options import DayOptions
from data_prep.generated.ground_truth import CALIBRATION, EVAL, Distribution, GroundTruth, sigmoid
from data_prep.synthetic import Options, generate, generate_days
from dlrm_mtl.schema import Schema, read_schema
from tests.entry_points.processes import python
from tests.messages import naming

SMALL = Distribution(cardinalities=(300, 20), multi_hot_cardinalities=(50,), mean_length=1.5, dense=2)


def read(directory: Path, split: str) -> pa.Table:
    return pq.read_table(directory / split)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Schema]:
    """A data set of the default distribution."""
    out = tmp_path_factory.mktemp("synthetic") / "data"
    return out, generate(Options(out, rows=40_000, eval_rows=20_000, seed=3))


def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    options = Options(tmp_path / "a", rows=20_000, eval_rows=3_000, seed=5, distribution=SMALL)
    generate(options)
    generate(replace(options, out=tmp_path / "b"))
    generate(replace(options, out=tmp_path / "c", seed=6))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert not read(tmp_path / "a", "train").equals(read(tmp_path / "c", "train"))


def test_a_larger_data_set_begins_with_the_smaller(tmp_path: Path) -> None:
    options = Options(tmp_path / "a", rows=20_000, eval_rows=3_000, distribution=SMALL)
    generate(options)
    generate(replace(options, out=tmp_path / "b", rows=45_000))
    assert read(tmp_path / "b", "train").num_rows == 45_000
    assert read(tmp_path / "b", "train").slice(0, 20_000).equals(read(tmp_path / "a", "train"))
    assert read(tmp_path / "b", "eval").equals(read(tmp_path / "a", "eval"))
    assert not read(tmp_path / "a", "train").slice(0, 3_000).equals(read(tmp_path / "a", "eval"))


def test_schema_describes_the_files(data_set: tuple[Path, Schema]) -> None:
    out, schema = data_set
    assert read_schema(out) == schema
    for split, rows in (("train", 40_000), ("eval", 20_000)):
        table = read(out, split)
        assert table.num_rows == schema.rows(split) == rows
        for feature in schema.categorical:
            column = table[feature.name].combine_chunks()
            ids = np.asarray(column.flatten() if feature.multi_hot else column)
            assert ids.min() >= 0
            assert ids.max() < feature.cardinality
            if feature.multi_hot and split == "train":
                assert feature.mean_length == pytest.approx(len(ids) / rows, abs=1e-6)
        assert all(np.isfinite(np.asarray(table[name])).all() for name in schema.dense)
        for task in schema.tasks:
            assert set(np.unique(np.asarray(table[task.label]))) == {0, 1}


def test_label_rates_are_those_asked_for(data_set: tuple[Path, Schema]) -> None:
    out, schema = data_set
    labels = pa.concat_tables([read(out, split) for split in ("train", "eval")])
    clicked = np.asarray(labels["click"]) == 1
    for name, asked, defined in (
        ("click", 0.3, clicked | True),
        ("like", 0.05, clicked | True),
        ("conversion", 0.1, clicked),
    ):
        rows = defined.sum()
        # Four standard errors of these rows, and as much for the sample from which the bias was set.
        tolerance = 4 * math.sqrt(asked * (1 - asked) / rows) + 4 * math.sqrt(
            asked * (1 - asked) / (65_536 * defined.mean())
        )
        assert np.asarray(labels[name])[defined].mean() == pytest.approx(asked, abs=tolerance)
    assert schema.tasks[0].base_rate == np.asarray(read(out, "train")["click"]).mean()


def test_the_regression_is_a_logit_with_noise(tmp_path: Path) -> None:
    distribution = replace(SMALL, watch_noise=1.5)
    schema = generate(Options(tmp_path / "data", rows=20_000, eval_rows=5_000, distribution=distribution))
    watch = schema.tasks[schema.task_names.index("watch")]
    labels = np.asarray(read(tmp_path / "data", "train")["watch"]).astype(np.float64)
    assert (watch.mean, watch.deviation) == pytest.approx((labels.mean(), labels.std()))
    truth = GroundTruth(distribution, 0)
    scale = truth.scales[schema.task_names.index("watch")]
    # Five standard errors of the mean and the deviation over 20,000 rows, and as much for the rows that set the bias.
    assert watch.mean == pytest.approx(2.0, abs=0.07 * math.hypot(scale, 1.5))
    nmse = schema.source["bayes_nmse"]["watch"]
    rows = truth.rows(EVAL, 0, CHUNK_ROWS)
    assert rows.watch is not None
    assert rows.expected_watch is not None
    evaluated = np.asarray(read(tmp_path / "data", "eval")["watch"])
    assert evaluated == pytest.approx(rows.watch[:5_000])
    errors = evaluated - rows.expected_watch[:5_000]
    assert nmse == pytest.approx(np.mean(errors**2) / evaluated.var(dtype=np.float64), rel=1e-5)
    assert np.std(errors) == pytest.approx(1.5, rel=0.05)
    days = [
        schema
        for _, schema in generate_days(
            Options(tmp_path / "days", rows=2_000, distribution=distribution, log=DayOptions(days=2))
        )
    ]
    scales = [schema.tasks[schema.task_names.index("watch")] for schema in days]
    assert (scales[0].mean, scales[0].deviation) == (scales[1].mean, scales[1].deviation)
    assert all(schema.source["bayes_nmse"]["watch"] < 1.0 for schema in days)


def test_a_conversion_needs_a_click(data_set: tuple[Path, Schema]) -> None:
    out, schema = data_set
    table = read(out, "train")
    click, conversion = np.asarray(table["click"]), np.asarray(table["conversion"])
    assert conversion.sum() > 0
    assert not (conversion & ~click & 1).any()
    assert [(task.name, task.given) for task in schema.tasks] == [("click", ""), ("like", ""), ("conversion", "click")]


def test_ids_follow_a_power_law_and_some_lists_are_empty(data_set: tuple[Path, Schema]) -> None:
    table = read(data_set[0], "train")
    counts = np.bincount(np.asarray(table["id_0"]), minlength=20_000)
    for rank in (1, 3, 9):
        assert counts[rank] / counts[0] == pytest.approx((rank + 1) ** -1.1, rel=0.15)
    lengths = table["list_0"].combine_chunks().value_lengths()
    assert (np.asarray(lengths) == 0).mean() == pytest.approx(math.exp(-5), rel=0.3)


def probabilities_row_by_row(truth: GroundTruth, table: pa.Table) -> np.ndarray:
    """The formulas of docs/data.md in plain Python, one row at a time."""
    knobs, result = truth.distribution, []
    one_hot = len(knobs.cardinalities)
    for row in table.to_pylist():
        sources = [truth.categorical[f].factors[row[f"id_{f}"]] for f in range(one_hot)]
        for f in range(len(knobs.multi_hot_cardinalities)):
            factors = truth.categorical[one_hot + f].factors
            sources.append(
                sum((factors[i] for i in row[f"list_{f}"]), np.zeros(truth.latent)) / math.sqrt(knobs.mean_length)
            )
        sources.append(sum(row[f"dense_{i}"] * truth.projection[i] for i in range(knobs.dense)))
        weighted = [weight * source for weight, source in zip(truth.weights, sources, strict=True)]
        u, v = sum(weighted[0::2]), sum(weighted[1::2])
        row_probabilities = []
        for m in range(truth.tasks):
            linear = math.sqrt(1 - knobs.interaction) * float(truth.directions[m] @ (u + v))
            bilinear = math.sqrt(knobs.interaction) * float(truth.product_directions[m] @ (u * v))
            logit = truth.scales[m] * (linear + bilinear) + truth.biases[m]
            row_probabilities.append(1 / (1 + math.exp(-logit)))
        result.append(row_probabilities)
    return np.array(result)


def test_bayes_ne_is_that_of_the_written_rows(tmp_path: Path) -> None:
    options = Options(tmp_path / "out", rows=1_000, eval_rows=4_000, seed=1, distribution=SMALL)
    schema = generate(options)
    table = read(options.out, "eval")
    probabilities = probabilities_row_by_row(GroundTruth(SMALL, seed=1), table)
    for m, task in enumerate(schema.tasks):
        losses, labels = [], []
        for p, label, click in zip(
            probabilities[:, m], table[task.label].to_pylist(), table["click"].to_pylist(), strict=True
        ):
            if not task.given or click:
                losses.append(-math.log(p if label else 1 - p))
                labels.append(label)
        rate = np.mean(labels)
        entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
        assert task.bayes_ne == pytest.approx(np.mean(losses) / entropy, rel=1e-6)


def test_bayes_ne_agrees_with_the_entropy_of_the_probabilities(data_set: tuple[Path, Schema]) -> None:
    """If labels were drawn from other probabilities, their log loss would differ."""
    truth = GroundTruth(Distribution(), seed=3)
    rows = truth.rows(CALIBRATION, 1, 200_000)
    p = rows.probabilities
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    for m, task in enumerate(data_set[1].tasks):
        weights = p[:, 0] if task.given else np.ones(len(p))
        rate = np.average(p[:, m], weights=weights)
        expected = np.average(entropy[:, m], weights=weights) / -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
        assert task.bayes_ne == pytest.approx(expected, abs=0.04)
        assert 0.5 < expected < 0.9


def test_true_probabilities_are_calibrated_in_every_decile() -> None:
    rows = GroundTruth(Distribution(), seed=0).rows(CALIBRATION, 2, 100_000)
    for m in range(3):
        defined = rows.labels[:, 0] == 1 if m == 2 else np.ones(100_000, bool)
        p, labels = rows.probabilities[defined, m], rows.labels[defined, m]
        for decile in np.array_split(np.argsort(p), 10):
            error = labels[decile].sum() - p[decile].sum()
            assert abs(error) < 5 * math.sqrt((p[decile] * (1 - p[decile])).sum()) + 1


def logits(distribution: Distribution) -> np.ndarray:
    """(B, M) without biases."""
    truth = GroundTruth(distribution, seed=2)
    p = truth.rows(CALIBRATION, 3, 50_000).probabilities
    return np.asarray(np.log(p) - np.log1p(-p) - truth.biases)


@pytest.mark.parametrize(("conflict", "correlation"), [(0.0, 1.0), (0.5, 0.25), (2 / 3, 0.0), (1.0, -0.5)])
def test_conflict_sets_the_correlation_of_logits(conflict: float, correlation: float) -> None:
    found = np.corrcoef(logits(Distribution(conflict=conflict)).T)
    assert found[np.triu_indices(3, 1)] == pytest.approx([correlation] * 3, abs=0.06)


def test_two_tasks_in_full_conflict_are_opposites() -> None:
    found = logits(Distribution(conflict=1.0, rates=(0.3,), imbalance=4.0))
    assert found[:, 0] == pytest.approx(-4.0 * found[:, 1], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("signal", "imbalance"), [(2.0, 1.0), (1.0, 9.0)])
def test_signal_and_imbalance_set_the_spread_of_logits(signal: float, imbalance: float) -> None:
    spread = logits(Distribution(signal=signal, imbalance=imbalance)).std(axis=0)
    assert spread == pytest.approx(signal * np.sqrt(imbalance) ** np.array([1, 0, -1]), rel=0.05)


@pytest.mark.parametrize("interaction", [0.0, 0.5, 1.0])
def test_interaction_is_the_share_of_variance_that_is_no_sum(interaction: float) -> None:
    truth = GroundTruth(replace(SMALL, interaction=interaction), seed=0)
    rng = np.random.default_rng(0)
    sources = [table.factors[table.sample(rng, 100_000)] for table in truth.categorical]
    sources.append(rng.standard_normal((100_000, 2)) @ truth.projection)
    both = truth.scores(sources)
    even = truth.scores([source * (s % 2 == 0) for s, source in enumerate(sources)])
    odd = truth.scores([source * (s % 2 == 1) for s, source in enumerate(sources)])
    assert (both - even - odd).var(axis=0) / both.var(axis=0) == pytest.approx([interaction] * 3, abs=0.03)


def test_more_tasks_and_no_funnel(tmp_path: Path) -> None:
    wide = replace(SMALL, rates=(0.5, 0.4, 0.2, 0.3), conversion_rate=0.0)
    schema = generate(Options(tmp_path / "out", rows=20_000, eval_rows=2_000, distribution=wide))
    assert schema.task_names == ("click", "like", "task_2", "task_3")
    assert not any(task.given for task in schema.tasks)
    assert [task.base_rate for task in schema.tasks] == pytest.approx([0.5, 0.4, 0.2, 0.3], abs=0.02)


def test_an_eval_split_of_one_class_has_no_bayes_ne(tmp_path: Path) -> None:
    schema = generate(Options(tmp_path / "out", rows=2_000, eval_rows=1, distribution=SMALL))
    assert [task.bayes_ne for task in schema.tasks] == [None, None, None]


def test_sigmoid_does_not_overflow() -> None:
    with np.errstate(over="raise"):
        assert sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("cardinalities", ()),
        ("cardinalities", (5, 1)),
        ("multi_hot_cardinalities", (1,)),
        ("mean_length", 0.0),
        ("dense", -1),
        ("exponent", 0.0),
        ("rates", ()),
        ("rates", (0.3, 1.0)),
        ("conversion_rate", 1.0),
        ("signal", -1.0),
        ("interaction", 1.5),
        ("conflict", -0.1),
        ("imbalance", math.inf),
    ],
)
def test_a_knob_out_of_range_is_named(tmp_path: Path, knob: str, value: object) -> None:
    options = Options(tmp_path / "out", distribution=replace(SMALL, **{knob: value}))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"^{knob} .*expected|^{knob}: expected"):
        generate(options)
    assert not (tmp_path / "out").exists()


def test_a_single_feature_is_refused(tmp_path: Path) -> None:
    lonely = Distribution(cardinalities=(5,), multi_hot_cardinalities=(), dense=0)
    with pytest.raises(ValueError, match="give a second one"):
        generate(Options(tmp_path / "out", distribution=lonely))


def test_features_too_poor_for_the_tasks_are_refused(tmp_path: Path) -> None:
    poor = Distribution(cardinalities=(2, 2), multi_hot_cardinalities=(), dense=0)
    with pytest.raises(ValueError, match=naming(2, "3 tasks")):
        generate(Options(tmp_path / "out", distribution=poor))


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return python("data_prep.synthetic", *arguments)


def test_entry_point(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(
        "--out", str(out), "--rows", "3000", "--eval-rows", "2000", "--cardinalities", "50", "20", "--seed", "7"
    )
    assert result.returncode == 0, result.stderr
    schema = read_schema(out)
    assert schema.rows("train") == 3000
    for task in schema.tasks:
        assert task.bayes_ne is not None
        assert f"{task.bayes_ne:.4f}" in result.stdout
    assert schema.source["seed"] == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "0"], "rows 0: expected at least 1"),
        (["--seed", "-1"], "seed -1: expected at least 0"),
        (["--rates", "1.5"], "rates (1.5,): expected at least one, each strictly between 0 and 1"),
    ],
)
def test_entry_point_says_in_one_line_what_is_wrong(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run("--out", str(tmp_path / "out"), *arguments)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"synthetic: {message}\n")


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from data_prep.synthetic import Options, generate, generate_days
for rows in (100_000, 400_000):
    generate(Options(Path(sys.argv[1]), rows=rows, eval_rows=1000))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    small, large = (int(line) for line in result.stdout.split())
    # 400,000 rows are 50 MB.
    assert large - small < 20_000
