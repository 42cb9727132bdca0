"""Figures as SVG for an HTML page: with the page's fonts and colours, light and dark, and unique ids."""

import html
import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib.figure import Figure
from matplotlib.style import context

# matplotlib logs its font cache on the first start.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

INK, MUTED, GRID, PAPER = "#a0b001", "#a0b002", "#a0b003", "#a0b004"
BETTER, WORSE, SHADE = "#a0b005", "#a0b006", "#a0b007"
SERIES = tuple(f"#a0b1{index:02x}" for index in range(7))
"""Placeholder colours for the page's CSS variables."""

VARIABLES = {
    **dict(zip((INK, MUTED, GRID, PAPER), ("ink", "muted", "grid", "paper"), strict=True)),
    **dict(zip((BETTER, WORSE, SHADE), ("better", "worse", "shade"), strict=True)),
    **{color: f"series-{index}" for index, color in enumerate(SERIES)},
}

COLORS = {
    "light": "--paper: #ffffff; --ink: #1c2126; --muted: #66707a; --grid: #e3e7ea; --shade: #eef1f3; --rule: #cfd6db;"
    " --better: #00664a; --worse: #b3400a; --link: #00589b; --series-0: #0068a8; --series-1: #c85200;"
    " --series-2: #007a55; --series-3: #b0467f; --series-4: #7a6200; --series-5: #2a9bd6; --series-6: #3c4248;",
    "dark": "--paper: #15191d; --ink: #e6eaed; --muted: #98a3ad; --grid: #2b3239; --shade: #232a30; --rule: #3a444d;"
    " --better: #4fd1a5; --worse: #ff9a62; --link: #7cc4ff; --series-0: #5eb3f0; --series-1: #ff9457;"
    " --series-2: #3ccf9e; --series-3: #ee94c6; --series-4: #dcc24a; --series-5: #a8dcff; --series-6: #c9d0d6;",
}
"""Of pages and of figures that stand alone, as CSS variables."""

COLOR_RULES = (
    f":root {{ color-scheme: light dark; {COLORS['light']} }}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {COLORS['dark']} }} }}"
)

STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "dlrm_mtl",  # the same figure is the same file
    "text.parse_math": False,  # names are not formulas
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "figure.dpi": 72,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelsize": 11,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "lines.linewidth": 1.6,
    "path.simplify": True,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draws with the report's style on top of matplotlib's defaults, without the user's settings."""
    with context(["default", STYLE]):
        yield


def to_svg(figure: Figure, key: str, label: str) -> str:
    """The figure as an ``<svg>`` element.

    Args:
        key: unique on the page; prefixes the ids within the figure.
        label: text for screen readers; empty for an ornament.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Missing glyphs matter only for measuring: the text stays text, shown in the reader's fonts.
        warnings.filterwarnings("ignore", r"Glyph \d+ \(.*\) missing from font\(s\)", UserWarning)
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", text, flags=re.DOTALL)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    if size is None:
        raise RuntimeError("matplotlib gave a figure no viewBox")
    spoken = f'role="img" aria-label="{html.escape(label)}"' if label else 'aria-hidden="true"'
    root = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' viewBox="0 0 {size[1]} {size[2]}" width="{size[1]}" height="{size[2]}" {spoken}>'
    )
    text = re.sub(r"^<svg[^>]*>", root, text)
    return _short_numbers(_page_colors(_own_names(text, key))).strip()


def stand_alone(svg: str) -> str:
    """An ``<svg>`` element as a file: with its fonts, colours and background."""
    rules = f"{COLOR_RULES}\nsvg {{ background: var(--paper); font-family: system-ui, sans-serif; }}"
    return svg.replace(">", f"><style>{rules}</style>", 1) + "\n"


def _own_names(text: str, key: str) -> str:
    """Prefixes ids that are referred to, and removes the others."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda match: f' id="{key}-{match[1]}"' if match[1] in used else "", text)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{key}-", text)


def _page_colors(text: str) -> str:
    text = re.sub("|".join(VARIABLES), lambda match: f"var(--{VARIABLES[match[0]]})", text)
    return re.sub(r" font-family: [^;\"]*;", "", text)  # the page's


def _short_numbers(text: str) -> str:
    """Rounds to a tenth of a pixel and removes attributes without effect, which takes a third off the file."""

    def shorten(attribute: re.Match[str]) -> str:
        rounded = re.sub(r"-?\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", attribute[0])
        return re.sub(r"\s*\n\s*", " ", rounded)

    text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
    text = re.sub(r' (?:d|x|y|width|height|transform)="[^"]*"', shorten, text)
    return re.sub(r">\s+<", "><", text)
