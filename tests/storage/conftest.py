"""An S3 server for tests."""

from collections.abc import Iterator

import pytest

from tests.storage.s3_server import CREDENTIALS, S3Server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        server = S3Server()
        yield server
        server.close()


@pytest.fixture
def s3(s3_server: S3Server) -> Iterator[S3Server]:
    """The server, without faults at first."""
    yield s3_server
    s3_server.fail_every, s3_server.refuse_all = 0, False
    s3_server.requests = s3_server.failed = 0
