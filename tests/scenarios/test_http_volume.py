"""Promise: a gigabyte passes whole in either direction, with and without TLS, and memory stays as it was."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest
from programs.balancer import Balancer
from programs.certificates import CertificateFiles
from programs.http_backend import HttpBackend, pattern, rss_bytes
from programs.http_pool import Front, http_pool, new_front

GIGABYTE: Final = 1_000_000_000
WARM_UP_BYTES: Final = 20_000_000  # after it all buffers have had their largest size
GROWTH_LIMIT_BYTES: Final = 8_000_000
LOOK_EVERY_S: Final = 0.05


@dataclass
class Way:
    """From a client through a balancer to a server, with TLS on both sides or on none."""

    front: Front
    balancer: Balancer
    peak: int = field(default=0, init=False)

    def down(self, size: int, framing: str) -> bytes:
        """Asks for so many bytes; the digest of what came."""
        connection, digest = self.front.connect(), hashlib.sha256()
        try:
            connection.request("GET", f"/bytes/{size}?framing={framing}")
            response = connection.getresponse()
            while block := response.read(1 << 20):
                digest.update(block)
        finally:
            connection.close()
        return digest.digest()

    def up(self, size: int, framing: str) -> bytes:
        """Sends so many bytes; the digest of what the server got."""
        connection = self.front.connect()
        fields = {"Content-Length": str(size)} if framing == "length" else {"Transfer-Encoding": "chunked"}
        try:
            connection.request("POST", "/echo", pattern(size), fields, encode_chunked=framing == "chunked")
            seen = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return bytes.fromhex(seen["sha256"])

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Notes the largest resident memory while the body runs."""
        is_over, pid = threading.Event(), self.balancer.worker

        def look() -> None:
            while not is_over.wait(LOOK_EVERY_S):
                self.peak = max(self.peak, rss_bytes(pid))

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield
        finally:
            is_over.set()
            watcher.join()


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def way(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles
) -> Iterator[Way]:
    used, run_dir = certificate if request.param else None, tmp_path_factory.mktemp("volume")
    upstream = {"upstream_tls": {"ca": str(certificate.ca)}} if request.param else {}
    front = new_front(used)
    with ExitStack() as stack:
        backend = stack.enter_context(HttpBackend("b1", run_dir / "b1", used))
        config = {
            "listeners": [front.listener("web", [{"pool": "web"}], limits={"body_bytes": "2GiB"})],
            "pools": {"web": http_pool(backend.address, **upstream)},
        }
        yield Way(front, stack.enter_context(Balancer(config, run_dir / "mfalb")))


def digest_of(size: int) -> bytes:
    digest = hashlib.sha256()
    for block in pattern(size):
        digest.update(block)
    return digest.digest()


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_gigabyte_passes_whole_and_memory_stays_flat(way: Way, direction: str, framing: str) -> None:
    stream = way.down if direction == "down" else way.up
    stream(WARM_UP_BYTES, framing)
    before = way.peak = rss_bytes(way.balancer.worker)
    with way.watched():
        received = stream(GIGABYTE, framing)
    assert received == digest_of(GIGABYTE)
    assert way.peak - before < GROWTH_LIMIT_BYTES, f"grew by {way.peak - before} bytes"
