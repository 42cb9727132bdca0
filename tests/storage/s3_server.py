"""An S3 server on loopback that refuses requests and cuts connections when a test wants it to."""

import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from dlrm_mtl.location import RemotePath
from dlrm_mtl.storage.store import Store

BUCKET = "bucket"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Environment of clients."""

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

SLOW_DOWN = (
    b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
)


class S3Server:
    """Serves a bucket from memory."""

    def __init__(self) -> None:
        self.fail_every: int = 0
        """Each n-th request fails: in turn by 503 SlowDown and by a connection that ends within the answer; 0: none."""
        self.refuse_all = False
        """Whether every request is answered by 503."""
        self.requests = 0
        self.failed = 0
        self.read = Counter[str]()
        """How often each object was read, by its key."""
        self._application: Application = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=_Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT")).close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def root(self) -> RemotePath:
        """The bucket."""
        return RemotePath(f"s3://{BUCKET}?endpoint_override=127.0.0.1:{self._server.server_port}&scheme=http")

    def store(self, directory: Path, name: str) -> RemotePath:
        """Copies a directory into the bucket."""
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                Store(self.root / name).put(path, str(path.relative_to(directory)))
        return self.root / name

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            self.requests += 1
            if environ["REQUEST_METHOD"] == "GET":
                self.read[environ["PATH_INFO"].removeprefix(f"/{BUCKET}/")] += 1
            fails = self.refuse_all or (self.fail_every > 0 and self.requests % self.fail_every == 0)
            self.failed += fails
            cut = fails and not self.refuse_all and self.failed % 2 == 0
        if fails and not cut:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(
                "503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(SLOW_DOWN)))]
            )
            return [SLOW_DOWN]
        answer = self._application(environ, start_response)
        return _cut(answer) if cut else answer


def _cut(answer: Iterable[bytes]) -> Iterator[bytes]:
    """Half of the answer, then the end of the connection."""
    content = b"".join(answer)
    yield content[: len(content) // 2]
    raise ConnectionResetError("cut by the test")


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    """Otherwise each answer waits 40 ms for an acknowledgement."""

    def log(self, *args: Any) -> None:
        """Nothing."""
