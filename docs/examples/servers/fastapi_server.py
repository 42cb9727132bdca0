"""Scores raw rows over HTTP: ``EXPORT=runs/ranker/export uvicorn docs.examples.servers.fastapi_server:app``."""

import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException

from dlrm_mtl.serving import Scorer

app = FastAPI()
scorer = Scorer(Path(os.environ["EXPORT"]))


@app.post("/score")
def score(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The probabilities of raw rows, by task."""
    try:
        return scorer.score(rows).to_pylist()
    except ValueError as error:
        raise HTTPException(status_code=422, detail=str(error)) from None
