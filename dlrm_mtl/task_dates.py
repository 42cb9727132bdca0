"""Days on which tasks begin and end, as text: ``like=2024-01-10``."""

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dlrm_mtl.quoting import quote


@dataclass(frozen=True)
class TaskDates:
    """The first and the last day of tasks; a task without one is there from the beginning, or to the end."""

    first: Mapping[str, datetime.date]
    last: Mapping[str, datetime.date]

    @staticmethod
    def parse(begins: Sequence[str], ends: Sequence[str], tasks: Collection[str]) -> "TaskDates":
        """Parses ``TASK=DATE`` of each task that begins or ends.

        Args:
            tasks: all that there are.

        Raises:
            ValueError: a text has another form, a task is unknown or occurs twice, or it ends before it begins.
        """
        dates = TaskDates(_parse("task_begins", begins, tasks), _parse("task_ends", ends, tasks))
        for task in sorted(dates.first.keys() & dates.last.keys()):
            if dates.last[task] < dates.first[task]:
                raise ValueError(
                    f"task_ends: task {quote(task)} ends on {dates.last[task]}, expected no day before its first,"
                    f" {dates.first[task]}"
                )
        return dates

    def exists_on(self, task: str, day: datetime.date) -> bool:
        """Whether there is the task on a day."""
        return self.first.get(task, day) <= day <= self.last.get(task, day)


def _parse(option: str, texts: Sequence[str], tasks: Collection[str]) -> dict[str, datetime.date]:
    dates: dict[str, datetime.date] = {}
    for text in texts:
        task, _, date = text.rpartition("=")
        if task not in tasks:
            expected = ", ".join(map(quote, tasks))
            raise ValueError(f"{option}: {quote(text)}, expected TASK=DATE with one of the tasks {expected}")
        if task in dates:
            raise ValueError(f"{option}: task {quote(task)} occurs twice")
        try:
            dates[task] = datetime.date.fromisoformat(date)
        except ValueError:
            raise ValueError(
                f"{option}: {quote(text)}, expected a date such as 2024-01-31 after the equals sign"
            ) from None
    return dates
