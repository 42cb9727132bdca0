"""Fixtures for tests of balancing."""

from collections.abc import Iterator

import pytest

from tests.balancing.looking import without_looking


@pytest.fixture(scope="module", params=[True, False], ids=["host", "device"])
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """As a CPU does it, whose values the host looks at, and as a GPU does it."""
    if request.param:
        yield
    else:
        with without_looking():
            yield
