"""Requests and answers pass whole, in order and however they are framed, and memory does not grow by them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from programs.certificates import CertificateFiles
from programs.http_backend import RawPeer, pattern, rss_bytes
from programs.http_pool import Responses
from programs.http_sites import Site, smooth_site
from programs.process import wait_until

MEGABYTE = 1_000_000
SIZES = (0, 1, 65_535, 65_536, 300_000, 20 * MEGABYTE)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles
) -> Iterator[Site]:
    with smooth_site(tmp_path_factory.mktemp("smooth"), certificate, is_tls=request.param) as running:
        yield running


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    yield running
    running.raw.forget()


def echoed(site: Site, method: str, body: Any = None, **headers: str) -> dict[str, Any]:
    """What the backend says that it was sent."""
    connection = site.front.connect()
    try:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        is_chunked = body is not None and not isinstance(body, bytes)
        connection.request(method, "/echo?a=b%20c", body=body, headers=fields, encode_chunked=is_chunked)
        response = connection.getresponse()
        assert response.status == 200
        seen: dict[str, Any] = json.loads(response.read())
    finally:
        connection.close()
    return seen


def field(seen: dict[str, Any], name: str) -> list[str]:
    """The values of a header that the backend saw."""
    return [value for found, value in seen["headers"] if found.lower() == name]


# --------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_request_body_reaches_the_backend_whole(site: Site, size: int, framing: str) -> None:
    whole = b"".join(pattern(size))
    if framing == "length":
        seen = echoed(site, "POST", whole)
        assert field(seen, "content-length") == [str(size)]
    else:
        seen = echoed(site, "POST", pattern(size), Transfer_Encoding="chunked")
        assert field(seen, "transfer-encoding") == ["chunked"]
    assert (seen["method"], seen["target"], seen["length"]) == ("POST", "/echo?a=b%20c", size)
    assert seen["sha256"] == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_answer_reaches_the_client_whole(site: Site, size: int, framing: str) -> None:
    connection = site.front.connect()
    try:
        connection.request("GET", f"/bytes/{size}?framing={framing}")
        response = connection.getresponse()
        expected = (str(size), None) if framing == "length" else (None, "chunked")
        assert (response.getheader("content-length"), response.getheader("transfer-encoding")) == expected
        assert hashlib.sha256(response.read()).digest() == hashlib.sha256(b"".join(pattern(size))).digest()
    finally:
        connection.close()


def test_a_slow_reader_of_200_megabytes_costs_the_balancer_only_a_few(site: Site) -> None:
    size = 200 * MEGABYTE
    with site.front.open(receive_buffer_bytes=65_536) as client:
        before = rss_bytes(site.balancer.worker)
        client.sendall(b"GET /bytes/%d HTTP/1.1\r\nHost: x\r\n\r\n" % size)
        taken = len(client.recv(65_536))
        # Only when nothing more passes has the balancer gathered all that it ever would.
        wait_until(lambda: not is_growing(site.balancer.worker), "the balancer to stop reading", deadline_s=15)
        grown = rss_bytes(site.balancer.worker) - before
        while taken < 10 * MEGABYTE:
            taken += len(client.recv(65_536))
        grown = max(grown, rss_bytes(site.balancer.worker) - before)
    assert grown < 8 * MEGABYTE, f"grew by {grown / MEGABYTE:.1f} MB"


def is_growing(pid: int) -> bool:
    """Whether a process takes more memory, or any processor time, over a tenth of a second."""
    before = (rss_bytes(pid), cpu_ticks(pid))
    threading.Event().wait(0.1)
    return (rss_bytes(pid), cpu_ticks(pid)) != before


def cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123 - procfs
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_slow_backend_holds_up_a_large_upload_instead_of_filling_the_memory(site: Site) -> None:
    may_go_on = threading.Event()

    def script(peer: RawPeer) -> None:
        peer.read_head()
        may_go_on.wait(20)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    site.raw.script = script
    before = rss_bytes(site.balancer.worker)
    with site.front.open() as client:
        client.sendall(b"POST /raw HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        client.settimeout(1.0)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(99 * MEGABYTE))
        grown = rss_bytes(site.balancer.worker) - before
        client.settimeout(10)
        may_go_on.set()
        assert Responses(client).next().status == 200
    assert grown < 8 * MEGABYTE, f"grew by {grown / MEGABYTE:.1f} MB"


def test_answers_to_a_client_that_pipelines_and_does_not_read_are_not_gathered(site: Site) -> None:
    before = rss_bytes(site.balancer.worker)
    with site.front.open(receive_buffer_bytes=65_536) as client:
        client.sendall(b"GET /bytes/30000000 HTTP/1.1\r\nHost: x\r\n\r\n" * 4)
        responses = Responses(client)
        largest = 0
        for _ in range(4):
            wait_until(lambda: not is_growing(site.balancer.worker), "the balancer to stop reading", deadline_s=15)
            largest = max(largest, rss_bytes(site.balancer.worker) - before)
            assert len(responses.next().body) == 30 * MEGABYTE
    assert largest < 8 * MEGABYTE, f"grew by {largest / MEGABYTE:.1f} MB"


# ------------------------------------------------------------------------------- connections and order


def test_connections_are_kept_on_both_sides(site: Site) -> None:
    before = site.backend.stats()
    connection = site.front.connect()
    try:
        for _ in range(20):
            connection.request("GET", "/echo")
            response = connection.getresponse()
            assert response.status == 200
            response.read()
            assert response.getheader("connection") is None
    finally:
        connection.close()
    for _ in range(20):
        assert site.front.get("/echo")[0] == 200
    after = site.backend.stats()
    assert after.requests - before.requests == 40
    assert after.connections - before.connections <= 1, "upstream connections were not used again"


def test_pipelined_requests_are_answered_in_order(site: Site) -> None:
    targets = ["/wait/0.2", *(f"/echo/{number}" for number in range(30)), "/bytes/100000", "/echo/last"]
    with site.front.open() as client:
        client.sendall(b"".join(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for target in targets))
        responses = Responses(client)
        bodies = [responses.next().body for _ in targets]
    assert bodies[0] == b"waited\n"
    assert [json.loads(body)["target"] for body in bodies[1:31]] == targets[1:31]
    assert len(bodies[31]) == 100_000
    assert json.loads(bodies[32])["target"] == "/echo/last"


def test_pipelined_bodies_stay_with_their_own_requests(site: Site) -> None:
    def post(number: int) -> bytes:
        body = b"%d" % number * 1000
        return b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (number, len(body), body)

    with site.front.open() as client:
        client.sendall(b"".join(post(number) for number in range(10, 30)))
        responses = Responses(client)
        seen = [json.loads(responses.next().body) for _ in range(20)]
    assert [one["target"] for one in seen] == [f"/{number}" for number in range(10, 30)]
    assert all(one["sha256"] == hashlib.sha256(one["target"][1:].encode() * 1000).hexdigest() for one in seen)


def test_close_is_said_and_done_when_the_client_asks_for_it(site: Site) -> None:
    with site.front.open() as client:
        client.sendall(b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        responses = Responses(client)
        assert responses.next().headers["connection"] == "close"
        assert responses.rest() == b""


# ------------------------------------------------------------------------------------- forwarding fields


def test_the_backend_is_told_who_asked_and_what_a_stranger_claims_is_dropped(site: Site) -> None:
    is_tls = site.front.certificate is not None
    seen = echoed(
        site,
        "GET",
        Host="Portal.Example.Test:8443",
        X_Forwarded_For="10.9.9.9",
        X_Forwarded_Proto="gopher",
        X_Forwarded_Host="evil.example.test",
        Forwarded="for=10.9.9.9",
        Connection="X-Secret-Hop, keep-alive",
        X_Secret_Hop="1",
        Keep_Alive="timeout=5",
        Proxy_Authorization="Basic eDp5",
        X_Other="kept",
    )
    assert field(seen, "x-forwarded-for") == ["127.0.0.1"]
    assert field(seen, "x-forwarded-proto") == ["https" if is_tls else "http"]
    assert field(seen, "x-forwarded-host") == ["Portal.Example.Test:8443"]
    assert field(seen, "host") == ["Portal.Example.Test:8443"]
    gone = ("forwarded", "connection", "te", "x-secret-hop", "keep-alive", "proxy-authorization", "upgrade")
    assert [name for name in gone if field(seen, name)] == []
    assert field(seen, "x-other") == ["kept"]


def test_a_trusted_proxy_is_believed_and_the_peer_is_added(tmp_path: Path, certificate: CertificateFiles) -> None:
    with smooth_site(tmp_path, certificate, is_tls=False, is_trusting=True) as site:
        seen = echoed(site, "GET", X_Forwarded_For="10.9.9.9", X_Forwarded_Proto="https", X_Forwarded_Host="a.test")
    assert field(seen, "x-forwarded-for") == ["10.9.9.9, 127.0.0.1"]
    assert field(seen, "x-forwarded-proto") == ["https"]
    assert field(seen, "x-forwarded-host") == ["a.test"]


def test_nothing_is_left_open_when_everybody_has_gone(site: Site) -> None:
    metrics = site.balancer.metrics
    wait_until(lambda: metrics().total("mfalb_listener_connections") == 0, "connections to be forgotten")
    assert metrics().total("mfalb_backend_active") == 0
