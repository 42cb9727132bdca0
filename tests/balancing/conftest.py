"""Fixtures for tests of balancing."""

from collections.abc import Iterator

import pytest

from tests.balancing.tracing import traced_operators


@pytest.fixture(scope="module", params=[True, False], ids=["host", "device"])
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """As on a CPU, whose values the host reads, and as on a GPU."""
    if request.param:
        yield
    else:
        with traced_operators():
            yield
