"""The page: complete, well-formed, self-contained."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dlrm_mtl.metrics.estimates_file import write_estimates
from dlrm_mtl.reporting.html import render_html, write_report
from dlrm_mtl.reporting.runs.join import join_runs
from dlrm_mtl.reporting.runs.report_data import ReportData, read_run
from tests.messages import mentions, naming
from tests.reporting.estimates import drawn_estimates
from tests.reporting.runs import TASKS, summarized, write_run

ARMS = ("mean", "multibalance:beta=0.1,prior_in_direction=0.5", "sum")
HOSTILE = ('<script>alert("x")</script>', "</style><b>&amp; $x$ 'quoted'", "--></svg>")
VOID = {"meta", "wbr", "br", "link", "img", "input", "hr"}
FIGURES = ("gain", "pareto", "speed", "weights", "norms", "weighted-norms", "cosines", "gap")


class Page(HTMLParser):
    """Parses the elements of a page; fails on unmatched tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def shown(self) -> str:
        """Its text."""
        return re.sub(r"\s+", " ", "".join(self.words))

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.elements if "id" in attributes]

    @property
    def svgs(self) -> list[str]:
        return re.findall(r"<svg.*?</svg>", self.text, flags=re.DOTALL)


def data(
    directory: Path, arms: Sequence[str] = ARMS, tasks: Sequence[str] = TASKS, windows: int = 4, seeds: int = 2
) -> ReportData:
    nes = {
        arm: tuple(0.9 - 0.01 * index * (column + 1) for column in range(len(tasks))) for index, arm in enumerate(arms)
    }
    run = read_run(write_run(directory, [summarized(n, nes, tasks) for n in range(seeds)], tasks, windows=windows))
    return ReportData.of([run], join_runs([run]))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(render_html(data(tmp_path_factory.mktemp("report") / "run")))


def test_every_arm_task_and_figure_is_there(page: Page) -> None:
    for name in (*ARMS, *TASKS):
        assert name in page.shown
    assert [name for name in FIGURES if name not in page.ids] == []
    for section in ("Summary", "NE gain", "Speed", "Training", "Metrics", "Definitions", "Configuration"):
        assert section in page.shown
    # One panel per arm in five charts, per treatment in three, and the Pareto view.
    assert page.text.count('role="img"') == 4 * len(ARMS) + 3 * (len(ARMS) - 1) + 1
    assert "python -m dlrm_mtl.compare --data runs/data --arms mean 'it'\"'\"'s'" in page.shown


def test_it_needs_nothing_else(page: Page) -> None:
    assert "script" not in {tag for tag, _ in page.elements}
    assert {tag for tag, _ in page.elements} & {"link", "img", "iframe", "object", "image"} == set()
    for tag, attributes in page.elements:
        for name in ("href", "src", "xlink:href"):
            if name in attributes:
                assert (attributes[name] or "").startswith("#"), tag
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in page.text
    assert set(re.findall(r"https?://[^\"]+", page.text)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_figures_are_well_formed_and_follow_the_colours(page: Page) -> None:
    variables = set(re.findall(r"(--[\w-]+):", page.text))
    for svg in page.svgs:
        ElementTree.fromstring(svg)
        assert set(re.findall(r"var\((--[\w-]+)\)", svg)) <= variables
        assert re.findall(r"#[0-9a-f]{6}\b", svg) == []
    dark = page.text.partition("prefers-color-scheme: dark")[2].partition("\n}")[0]
    for name in ("paper", "ink", "grid", "series-0", "series-6", "better", "worse"):
        assert f"--{name}:" in dark


def test_names_within_the_page_are_unique_and_lead_somewhere(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    targets = re.findall(r'(?:href="#|url\(#)([^")]+)', page.text)
    assert targets
    assert set(targets) <= set(page.ids)


def test_axes_have_units(page: Page) -> None:
    for label in ("NE gain (%)", "training step", "samples per second", "gradient norm (nats)", "Pareto gap (nats)"):
        assert label in page.shown
    assert f"NE gain of {TASKS[0]} (%)" in page.shown


def test_what_only_seeds_npz_knows_is_there(tmp_path: Path) -> None:
    """Segments, deciles, both intervals; one value has a single class, and no gain."""
    nes = [{"mean": (0.9, 0.9), "x": (0.85, 0.9 + n / 1000)} for n in range(2)]
    summaries = [summarized(n, of_arms) for n, of_arms in enumerate(nes)]
    decile = {"rows": 10, "predicted": 0.2, "rate": 0.1}
    for summary in summaries:
        for arm in summary["arms"].values():
            for task in arm["tasks"].values():
                task["deciles"] = [decile, {**decile, "rate": 0.0}, decile]
                task["calibration_interval"] = {"low": 0.98, "high": 1.07}
    directory = write_run(tmp_path / "run", summaries)
    for n, of_arms in enumerate(nes):
        arms = drawn_estimates(of_arms, segments={"hour": ["0", "23"], "<b>tab</b>": ["<i>"]})
        for arm in arms.values():
            arm.segments["hour"]["23"].ne.values[1] = float("nan")
        write_estimates(directory / f"seed-{n}.npz", arms)
    run = read_run(directory)
    page = Page(render_html(ReportData.of([run], join_runs([run]))))
    for svg in page.svgs:
        ElementTree.fromstring(svg)
    assert len(page.ids) == len(set(page.ids))
    assert {"segment-0", "segment-1", "deciles"} <= set(page.ids)
    assert "NE gain (%) by hour" in page.shown
    assert "<b>tab</b>" in page.shown
    assert "[0.980, 1.070]" in page.shown
    assert "other seeds and other evaluation rows" in page.shown
    assert "no positive" in page.shown
    segments = page.shown.partition("NE gain (%) by hour")[2].partition("NE gain by")[0]
    assert segments.count("+5.000 [") == 2
    assert "x23100-+5.000" in segments  # without a gain of the other task there is no average


def test_names_are_escaped(tmp_path: Path) -> None:
    page = Page(render_html(data(tmp_path / "run", arms=("mean", *HOSTILE), tasks=HOSTILE)))
    assert "script" not in {tag for tag, _ in page.elements}
    assert "b" not in {tag for tag, attributes in page.elements if tag == "b" and "quoted" in str(attributes)}
    assert "<script>alert" not in page.text
    for name in HOSTILE:
        assert name in page.shown
    for svg in page.svgs:
        ElementTree.fromstring(svg)


def test_without_logs_there_are_no_curves_and_it_says_so(tmp_path: Path) -> None:
    page = Page(render_html(data(tmp_path / "run", windows=0)))
    assert mentions(page.shown, "No curves", "metrics.jsonl")
    assert set(FIGURES) & set(page.ids) == {"gain", "pareto"}


def test_thinning_is_said_and_keeps_the_file_small(tmp_path: Path) -> None:
    short = render_html(data(tmp_path / "short", windows=300, seeds=1))
    long = render_html(data(tmp_path / "long", windows=3000, seeds=1))
    assert "Thinned out" not in short
    assert mentions(long, "3,000", "mean of 10")
    assert len(long) < 1.1 * len(short) < 1_500_000


def test_one_task_has_no_pareto_view(tmp_path: Path) -> None:
    page = Page(render_html(data(tmp_path / "run", tasks=("click",), windows=0)))
    assert "No Pareto view" in page.shown
    assert "pareto" not in page.ids


def test_the_pareto_view_takes_the_widest_tasks_or_those_named(tmp_path: Path) -> None:
    found = data(tmp_path / "run", tasks=("narrow", "wide", "widest"), windows=0)
    assert "Pareto view: widest against wide" in render_html(found)
    assert "Pareto view: narrow against wide" in render_html(found, ("narrow", "wide"))
    with pytest.raises(ValueError, match=naming("--pareto", "'buy'", "narrow, wide, widest")):
        render_html(found, ("narrow", "buy"))
    with pytest.raises(ValueError, match=naming("--pareto", "'wide'", "twice")):
        render_html(found, ("wide", "wide"))


def test_many_tasks_have_a_mean_cosine_each(tmp_path: Path) -> None:
    tasks = tuple(f"task_{index}" for index in range(6))
    page = Page(render_html(data(tmp_path / "run", tasks=tasks, windows=2, seeds=1)))
    assert "mean over its pairs" in page.shown
    assert "task_0 and task_1" not in page.shown


def test_an_exploded_arm_is_shown(tmp_path: Path) -> None:
    nes = {"mean": (0.9, 0.9), "x": (0.8, None), "y": (0.8, 0.9)}
    run = read_run(write_run(tmp_path / "run", [summarized(n, nes) for n in range(2)]))
    page = Page(render_html(ReportData.of([run], run.comparison)))
    assert mentions(page.shown, "NEX", "seeds 0 and 1")
    assert mentions(page.shown, "Left out", "exploded", "x.")


def test_one_arm_that_went_astray_does_not_press_the_others_into_a_line(tmp_path: Path) -> None:
    nes = {"mean": (0.9, 0.9), "x": (0.89, 0.91), "y": (0.88, 0.9), "z": (1.9, 1.8)}
    run = read_run(write_run(tmp_path / "run", [summarized(n, nes) for n in range(2)]))
    page = Page(render_html(ReportData.of([run], run.comparison)))
    assert "Arrows" in page.shown
    assert mentions(page.shown, "Left out", "far beyond", "z.")
    assert "-100.000" in page.shown
    usual = Page(render_html(data(tmp_path / "usual"))).shown
    assert "Arrows" not in usual
    assert "far beyond" not in usual


def test_untimed_arms(tmp_path: Path) -> None:
    seeds = [summarized(n, {"mean": (0.9, 0.9), "x": (0.8, 0.8)}) for n in range(2)]
    for summary in seeds:
        for arm in summary["arms"].values():
            arm["qps"] = []
    run = read_run(write_run(tmp_path / "run", seeds))
    assert "not timed" in Page(render_html(ReportData.of([run], run.comparison))).shown


def test_files(tmp_path: Path) -> None:
    found = data(tmp_path / "run", windows=0)
    said = write_report(found, tmp_path)
    assert (tmp_path / "report.md").read_text().startswith("# shop\n")
    assert (tmp_path / "report.html").read_text() == render_html(found)
    assert str(tmp_path / "report.html") in said
