"""Runs the stages of a preparation and waits for the other replicas after each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from data_prep.engine.preparation import Preparation
from data_prep.engine.segments import Part, parts_of, records
from data_prep.engine.workers import Progress, Workers, run

CHANGED = "a file of the log has changed since the preparation began"

Records = dict[tuple[int, int], dict[str, Any]]
"""By file and segment, in the order of the log."""


@dataclass(frozen=True)
class StageRunner:
    """Runs stages one after the other."""

    preparation: Preparation
    workers: Workers
    check: Callable[[], None]
    """Called while waiting for other replicas; raises to end the wait."""

    def over_segments(self, stage: str, work: Callable[[Part], Iterator[Any]]) -> Records:
        """Runs a pass until all replicas have finished; returns the records of its segments."""
        finished: Records = {}

        def is_done() -> bool:
            finished.update(records(self.preparation, stage) or {})
            return bool(finished)

        self._run_pass(stage, work, is_done)
        return finished

    def over_segments_to_the_end(self, stage: str, work: Callable[[Part], Iterator[Any]]) -> NoReturn:
        """Runs the last pass on a replica that is not the first, and waits until ``check`` ends it."""
        self._run_pass(stage, work, lambda: False)
        raise AssertionError("the wait has no other end")

    def over_numbers(self, stage: str, work: Callable[[int], Iterator[Any]], count: int, unit: str) -> None:
        """Runs a stage of numbered pieces until all replicas have finished."""
        directory = self.preparation.directory

        def is_done() -> bool:
            return all(directory.marker(stage, f"{number:03d}").is_file() for number in range(count))

        self._run_numbers(stage, work, count, unit, is_done)

    def over_numbers_to_the_end(
        self, stage: str, work: Callable[[int], Iterator[Any]], count: int, unit: str
    ) -> NoReturn:
        """Runs the last stage on a replica that is not the first, and waits until ``check`` ends it."""
        self._run_numbers(stage, work, count, unit, lambda: False)
        raise AssertionError("the wait has no other end")

    def _run_numbers(
        self, stage: str, work: Callable[[int], Iterator[Any]], count: int, unit: str, is_done: Callable[[], bool]
    ) -> None:
        directory = self.preparation.directory

        def is_over() -> bool:
            self.check()
            return is_done()

        progress = Progress(directory.stage(stage), count, {}, unit, directory.replica.rank == 0)
        run(work, list(range(count)), self.workers, directory, is_over, progress)

    def _run_pass(self, stage: str, work: Callable[[Part], Iterator[Any]], is_done: Callable[[], bool]) -> None:
        preparation = self.preparation
        directory = preparation.directory
        parts = parts_of(preparation, stage)

        def is_over() -> bool:
            self.check()
            if is_done():
                return True
            if parts_of(preparation, stage) != parts:
                raise ValueError(CHANGED)
            return False

        files = preparation.files_of(stage)
        total = sum(preparation.files[file].stat().st_size for file in files)
        segments = {file: preparation.segments(file, stage) for file in files}
        progress = Progress(directory.stage(stage), total, segments, "B", directory.replica.rank == 0)
        run(work, parts, self.workers, directory, is_over, progress)
