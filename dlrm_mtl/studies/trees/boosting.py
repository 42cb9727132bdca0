"""LightGBM on one task (Ke et al., NeurIPS 2017)."""

from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

from dlrm_mtl.model_schema import Task
from dlrm_mtl.quoting import quote
from dlrm_mtl.studies.trees.case import TreesCase
from dlrm_mtl.studies.trees.features import Features

Column = npt.NDArray[np.float32]


def train_task(
    case: TreesCase, task: Task, features: Features, labels: Column, weights: Column, seed: int
) -> tuple[Column, int]:
    """Trains on the rows where the task is defined.

    Args:
        labels: (N,) of the training rows.
        weights: (N,), 0 where the task is not defined.

    Returns:
        the log-odds (E,) of the evaluation rows, and the number of trees.

    Raises:
        ValueError: the rows that choose the number of trees, or the others, have one class only.
    """
    defined = np.flatnonzero(weights > 0)
    boundary = len(weights) - round(case.held_out * len(weights))
    fitted, held_out = defined[defined < boundary], defined[defined >= boundary]
    for rows, which in ((fitted, "first"), (held_out, "last")):
        if not 0 < labels[rows].sum() < len(rows):
            raise ValueError(
                f"task {quote(task.name)}: the {which} {len(rows)} training rows have one class only; expected both"
                f" among the rows before and after held_out {case.held_out}"
            )

    def rows_of(chosen: npt.NDArray[np.intp]) -> lightgbm.Dataset:
        return lightgbm.Dataset(
            features.train[chosen],
            labels[chosen],
            weight=weights[chosen],
            categorical_feature=list(features.categorical),
            params={"verbosity": -1},
        )

    options = _options(case, seed)
    stop = lightgbm.early_stopping(case.patience, verbose=False)
    of_fitted = rows_of(fitted)
    held = of_fitted.create_valid(features.train[held_out], labels[held_out], weight=weights[held_out])
    chosen = lightgbm.train(options, of_fitted, case.max_trees, valid_sets=[held], callbacks=[stop])
    trees = chosen.best_iteration
    model = lightgbm.train(options, rows_of(defined), trees)
    predicted: Column = model.predict(features.evaluation, raw_score=True).astype(np.float32)
    return predicted, trees


def _options(case: TreesCase, seed: int) -> dict[str, Any]:
    return {
        "objective": "binary",
        "learning_rate": case.learning_rate,
        "num_leaves": case.num_leaves,
        "min_data_in_leaf": case.min_data_in_leaf,
        # Every tree sees other rows and columns, by the seed.
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "feature_fraction": 0.8,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": case.threads,
        "verbosity": -1,
    }
