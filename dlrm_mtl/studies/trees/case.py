"""Options of the experiment ``trees``. Free of torch, so that ``--help`` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dlrm_mtl.config import require, require_positive
from dlrm_mtl.location import Location

Visible = Literal["none", "earlier", "others"]


@dataclass(frozen=True)
class TreesCase:
    """Trains LightGBM on each binary task by itself, with the seeds of a comparison on the same data, and adds it to
    the comparison's arms."""

    data: Location
    """Directory of the data set."""
    beside: Path
    """Run directory of dlrm_mtl.compare, whose arms were evaluated on the same rows. Its control stays the control."""
    out: Path
    """New directory: the comparison with one arm more, and trees.json."""
    seeds: int | None = None
    """How many of the comparison's seeds are used, the first ones; by default all."""
    rates: Visible = "none"
    """Counts and label rates of ids as features, from training rows in other parts of the data. earlier: training rows
    stand in the order of their times, and a row sees the parts before its own. others: parts are drawn at random, and a
    row sees all others. Evaluation rows see all training rows. none: no such features."""
    parts: int = 9
    """Number of parts."""
    smoothing: float = 20.0
    """Rows at the mean label that are added to those of an id in its rate."""
    categories: int = 256
    """A table of at most so many ids is a categorical feature of LightGBM; a larger one is used by its rates only."""
    top_ids: int = 20
    """The most frequent ids of a multi-hot feature: whether a row has them, beside the number of its ids."""
    num_leaves: int = 15
    """Leaves of a tree."""
    min_data_in_leaf: int = 100
    """Rows of a leaf."""
    learning_rate: float = 0.03
    """Step size of a tree."""
    max_trees: int = 2000
    """Trees of a model at most."""
    patience: int = 50
    """Trees without a lower loss on the held-out rows after which training stops."""
    held_out: float = 0.1
    """Share of the training rows, the last ones, that choose the number of trees. The model is then trained again, with
    this number, on all training rows."""
    threads: int = 1
    """Threads of LightGBM."""

    def __post_init__(self) -> None:
        require_positive(self, "smoothing", "categories", "learning_rate", "max_trees", "patience", "threads")
        require_positive(self, "min_data_in_leaf")
        require("seeds", self.seeds, self.seeds is None or self.seeds > 0, "at least 1")
        require("num_leaves", self.num_leaves, self.num_leaves > 1, "at least 2")
        require("parts", self.parts, self.parts > 1, "at least 2")
        require("top_ids", self.top_ids, self.top_ids >= 0, "0 or more")
        require("held_out", self.held_out, 0 < self.held_out < 1, "a share between 0 and 1")
        free = not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir()))
        require("out", str(self.out), free, "a new or an empty directory")
