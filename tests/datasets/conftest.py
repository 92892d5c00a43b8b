"""A web server on this machine that can be told to misbehave; it notes what it was asked for and what it sent."""

import hashlib
import http.server
import threading
from collections.abc import Iterator

import pytest

from det_distill.datasets.fetch import Archive


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `cuts` are the bytes after which the next answers end early, `refusals` their status codes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.cuts: list[int] = []
        self.refusals: list[int] = []
        self.asked: list[tuple[str, str | None, int]] = []  # path, Range, bytes sent

    def offer(self, name: str, content: bytes, checksum: str = "md5") -> Archive:
        self.files[f"/files/{name}"] = content
        address = f"http://127.0.0.1:{self.server_port}/files/{name}"
        return Archive(address, len(content), f"{checksum}:{hashlib.new(checksum, content).hexdigest()}")


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content, wanted = self.server.files.get(self.path), self.headers["Range"]
        status = self.server.refusals.pop(0) if self.server.refusals else 200 if content is not None else 404
        if status != 200:
            self.server.asked.append((self.path, wanted, 0))
            self.send_error(status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        sent = body[: self.server.cuts.pop(0)] if self.server.cuts else body
        self.server.asked.append((self.path, wanted, len(sent)))
        self.wfile.write(sent)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
