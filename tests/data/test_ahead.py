"""Items made ahead of their use."""

import threading
from collections.abc import Iterator

import pytest

from dlrm_mtl.data.ahead import ahead, map_ahead


class Source:
    """Counts up, and knows how many items were asked for."""

    def __init__(self, items: int, error: Exception | None = None) -> None:
        self.items = items
        self.error = error
        self.asked = threading.Semaphore(0)
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[int]:
        for item in range(self.items):
            self.threads.add(threading.get_ident())
            self.asked.release()
            yield item
        if self.error is not None:
            raise self.error


def test_items_come_in_order_from_one_other_thread() -> None:
    source = Source(50)
    assert list(ahead(iter(source))) == list(range(50))
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads


def test_one_item_is_made_while_one_is_used() -> None:
    source = Source(50)
    items = ahead(iter(source))
    assert next(items) == 0
    assert all(source.asked.acquire(timeout=30) for _ in range(2))  # the second, nobody having asked for it
    assert not source.asked.acquire(timeout=0.2)
    assert next(items) == 1
    assert source.asked.acquire(timeout=30)


def test_an_error_comes_where_its_item_would_have() -> None:
    items = ahead(iter(Source(2, ValueError("the third"))))
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(items)


def test_whoever_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    items = ahead(iter(Source(50)))
    next(items)
    assert threading.active_count() == before + 1
    items.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_nothing_at_all() -> None:
    assert list(ahead(iter(()))) == []


@pytest.mark.parametrize("threads", [0, 3])
def test_a_function_of_items_computed_at_once(threads: int) -> None:
    """So many are computed at once that each of the first can wait for the next ones."""
    started = [threading.Event() for _ in range(20)]

    def square(item: int) -> int:
        started[item].set()
        if item == 15:
            raise ValueError("the fifteenth")
        assert threads == 0 or started[min(item + threads - 1, 15)].wait(timeout=30)
        return item * item

    squares = map_ahead(square, range(20), threads)
    assert [next(squares) for _ in range(15)] == [item * item for item in range(15)]
    with pytest.raises(ValueError, match="the fifteenth"):
        next(squares)
    assert threads or not started[16].is_set()
