"""When tasks begin and end in a stream, as text: ``like=2022-05-01``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dlrm_mtl.continuation import Period, parse_time
from dlrm_mtl.quoting import quote


@dataclass(frozen=True)
class TaskTimes:
    """First and last days of tasks. Raises ValueError for a text that is not of the form TASK=TIME, a task that is
    named twice or ends before it begins."""

    begins: Mapping[str, str]
    """By task, the first time at which a period with the task may start."""
    ends: Mapping[str, str]
    """By task, the last such time."""

    @classmethod
    def of(cls, begins: Sequence[str], ends: Sequence[str]) -> "TaskTimes":
        """From the options task_begins and task_ends."""
        return cls(dict(_parse("task_begins", begins)), dict(_parse("task_ends", ends)))

    def __post_init__(self) -> None:
        for task in self.begins.keys() & self.ends.keys():
            if _is_later(self.begins[task], self.ends[task]):
                raise ValueError(
                    f"task {quote(task)} ends at {self.ends[task]}, before it begins at {self.begins[task]}; expected"
                    " task_ends to be task_begins or later"
                )

    @property
    def tasks(self) -> set[str]:
        """The tasks that begin or end."""
        return {*self.begins, *self.ends}

    def has(self, task: str, period: Period) -> bool:
        """Whether a task exists in a period.

        Raises:
            ValueError: one time is a date and the other a number.
        """
        begins, ends = self.begins.get(task, period.start), self.ends.get(task, period.start)
        return not _is_later(begins, period.start) and not _is_later(period.start, ends)


def _parse(option: str, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    tasks: set[str] = set()
    for text in texts:
        task, _, time = text.rpartition("=")
        if not task:
            raise ValueError(f"{option}: {quote(text)} is not of the form TASK=TIME")
        if task in tasks:
            raise ValueError(f"{option}: task {quote(task)} occurs twice")
        try:
            parse_time(time)
        except ValueError as error:
            raise ValueError(f"{option}: {quote(text)}: {error}") from None
        tasks.add(task)
        yield task, time


def _is_later(one: str, other: str) -> bool:
    times = parse_time(one), parse_time(other)
    if type(times[0]) is not type(times[1]):
        raise ValueError(f"times {quote(one)} and {quote(other)}: expected two dates, or two numbers")
    return times[0] > times[1]  # type: ignore[operator, no-any-return]
