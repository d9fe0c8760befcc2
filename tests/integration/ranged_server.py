"""A web server of one large file, which stops answering after so many ranges, to kill who asks."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class RangedServer:
    """Serves `body` at `url`; after `stops_after` ranges it lets all others wait, until told."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.asked: list[int] = []
        self.stops_after = 10**9
        self.has_stopped = threading.Event()
        self.goes_on = threading.Event()
        self.lock = threading.Lock()
        self.port = 0

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"http://127.0.0.1:{self.port}/large.bin"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serves for as long as the block lasts."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._head(200, len(outer.body))

            def do_GET(self) -> None:
                found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                first, last = (int(found[1]), int(found[2])) if found else (0, len(outer.body) - 1)
                if not outer.may_answer(first):
                    self.close_connection = True
                    return
                self._head(206, last + 1 - first, f"bytes {first}-{last}/{len(outer.body)}")
                self.wfile.write(outer.body[first : last + 1])

            def _head(self, status: int, size: int, content_range: str = "") -> None:
                self.send_response(status)
                self.send_header("ETag", '"state-1"')
                self.send_header("Content-Length", str(size))
                if content_range:
                    self.send_header("Content-Range", content_range)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self.goes_on.set()
            server.shutdown()
            thread.join()
            server.server_close()

    def may_answer(self, first: int) -> bool:
        """Whether a range is sent; where not, whoever asked was let wait."""
        with self.lock:
            self.asked.append(first)
            is_sent = len(self.asked) <= self.stops_after
        if not is_sent:
            self.has_stopped.set()
            self.goes_on.wait()
        return is_sent
