"""Servers on this machine: of HTTP, with faults on demand, and of S3."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from struct import pack


class FaultyServer(ThreadingHTTPServer):
    """Serves a folder.

    Attributes:
        faults: By file name, what happens to its next requests, first to last: 'stall', 'reset', 'truncate', 'error', 'missing', or 'ok'.
        requests_of: How often each file was asked for by GET.
        knows_ranges: Whether parts of files are served.
    """
    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(('127.0.0.1', 0), Handler)
        self.folder = folder
        self.faults: dict[str, list[str]] = {}
        self.requests_of: Counter[str] = Counter()
        self.knows_ranges = True
        self.stopped = threading.Event()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_address[1]}'

    def handle_error(self, request, client_address):
        """A client that has given up is no error here."""


class Handler(BaseHTTPRequestHandler):
    server: FaultyServer
    protocol_version = 'HTTP/1.1'

    def log_message(self, format, *args):
        pass

    def do_HEAD(self):
        self.answer(with_body = False)

    def do_GET(self):
        self.server.requests_of[Path(self.path).name] += 1
        self.answer(with_body = True)

    def answer(self, with_body):
        if self.server.stopped.is_set():    # also for connections that are kept
            self.close_connection = True
            return

        path = self.server.folder / self.path.lstrip('/')
        fault = 'ok'

        if with_body and self.server.faults.get(path.name):
            fault = self.server.faults[path.name].pop(0)

        if fault == 'missing' or not path.is_file():
            self.send_error(404)
            return

        if fault == 'error':
            self.send_error(503)
            return

        content = path.read_bytes()
        size = len(content)
        asked = re.fullmatch(r'bytes=(\d+)-(\d+)', self.headers.get('Range', '')) if self.server.knows_ranges else None

        if asked is not None:
            content = content[int(asked[1]):int(asked[2]) + 1]

        self.send_response(200 if asked is None else 206)
        self.send_header('Content-Length', str(len(content)))

        if asked is not None:
            self.send_header('Content-Range', f'bytes {asked[1]}-{asked[2]}/{size}')

        if self.server.knows_ranges:
            self.send_header('Accept-Ranges', 'bytes')

        self.end_headers()

        if not with_body:
            return

        if fault == 'ok':
            self.wfile.write(content)
            return

        self.wfile.write(content[:len(content) // 2])
        self.wfile.flush()

        if fault == 'stall':
            self.server.stopped.wait(30)
        elif fault == 'reset':
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, pack('ii', 1, 0))

        self.close_connection = True


@contextmanager
def http_server(folder: Path) -> Iterator[FaultyServer]:
    server = FaultyServer(folder)
    thread = threading.Thread(target = server.serve_forever, kwargs = dict(poll_interval = 0.05), daemon = True)
    thread.start()

    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()


@contextmanager
def s3_server(monkeypatch) -> Iterator[str]:
    """The address of moto's server, which fsspec is told by its environment."""
    from fsspec.config import conf
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address = '127.0.0.1', port = 0, verbose = False)
    server.start()
    host, port = server.get_host_and_port()
    url = f'http://{host}:{port}'

    for name, value in dict(AWS_ACCESS_KEY_ID = 'test', AWS_SECRET_ACCESS_KEY = 'test', AWS_DEFAULT_REGION = 'us-east-1').items():
        monkeypatch.setenv(name, value)

    monkeypatch.setitem(conf, 's3', dict(endpoint_url = url))

    try:
        yield url
    finally:
        server.stop()


def wait_until(happened, seconds = 60.):
    """For what happens in the background."""
    end = time.monotonic() + seconds

    while not happened():
        assert time.monotonic() < end, 'it has not happened'
        time.sleep(0.01)
