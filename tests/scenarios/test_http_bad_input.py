"""Whatever clients send, the balancer answers clearly or closes, counts it, passes nothing on, and goes on serving."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from programs.certificates import CertificateFiles
from programs.http_backend import RawPeer
from programs.http_pool import Responses, read_all
from programs.http_sites import HEADER_BYTES, RoughSite, rough_site
from programs.odd_requests import AMBIGUOUS, BAD_CHUNKS, CHUNKED, SMUGGLED
from programs.ports import LOOPBACK
from programs.process import wait_until


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles) -> Iterator[RoughSite]:
    with rough_site(tmp_path_factory.mktemp("rough"), certificate) as running:
        yield running


@pytest.fixture
def site(running: RoughSite) -> Iterator[RoughSite]:
    with running.served():
        yield running


# ---------------------------------------------------------------------------------- requests in two minds


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_request_in_two_minds_is_refused_closed_and_never_forwarded(site: RoughSite, name: str) -> None:
    answer = site.plain.say(AMBIGUOUS[name])
    assert answer[9:10] in (b"4", b"5"), f"not refused: {answer[:80]!r}"
    assert answer.count(b"HTTP/1.1 ") == 1, f"more than one answer: {answer!r}"
    assert b"connection: close" in answer.lower()
    assert site.backend.received == b"", "something of it reached the backend"


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_a_broken_chunked_body_ends_the_exchange_and_nothing_behind_it_is_served(site: RoughSite, name: str) -> None:
    def script(peer: RawPeer) -> None:
        peer.read_head()
        peer.read_body(1 << 20)

    site.backend.script = script
    answer = site.plain.say(CHUNKED + BAD_CHUNKS[name] + SMUGGLED)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 502")), f"{answer[:80]!r}"
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"smuggled" not in site.backend.received
    assert b"\r\n0\r\n\r\n" not in site.backend.received, "the body was finished in the client's name"


@pytest.mark.parametrize("target", [b"/a/../b", b"/a/%2e%2E/b", b"/a/..%2fb", b"/a\\..\\b", b"/a/..%5Cb", b"/.."])
def test_a_path_that_a_backend_would_resolve_to_another_is_refused(site: RoughSite, target: bytes) -> None:
    answer = site.plain.say(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target)
    assert answer.startswith(b"HTTP/1.1 400"), f"{answer[:80]!r}"
    assert site.backend.received == b""


def test_bytes_behind_an_upgrade_request_wait_for_the_answer_and_are_a_request_when_nothing_was_switched(
    site: RoughSite,
) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with site.plain.open() as client:
        client.sendall(head + b"GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_all(client).count(b"HTTP/1.1 200 OK") == 2
    first, _, second = site.backend.received.partition(b"GET /second HTTP/1.1\r\n")
    assert b"Connection: upgrade\r\nUpgrade: websocket\r\n" in first
    assert b"pgrade" not in second
    assert site.backend.received.count(b"X-Forwarded-For") == 2


def test_nothing_is_served_behind_a_refusal_that_says_close(site: RoughSite) -> None:
    refused = b"POST /a/../b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
    answer = site.plain.say(refused + b"hello" + SMUGGLED + b"garbage\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1, f"{answer!r}"
    assert site.backend.received == b""


def test_many_refused_requests_behind_a_slow_one_are_answered_in_order(site: RoughSite) -> None:
    """They wait for their turn in one read; none may lean on the one before it as on a stack."""
    many = 3000
    with site.plain.open() as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
            + b"GET /../ HTTP/1.1\r\nHost: x\r\n\r\n" * many
            + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        responses = Responses(client)
        assert [responses.next().status for _ in range(many + 2)] == [200] + [400] * many + [200]


def test_many_bodyless_questions_for_a_dead_service_behind_a_slow_one_are_answered(site: RoughSite) -> None:
    many = 2000
    with site.plain.open() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /gone HTTP/1.1\r\nHost: x\r\n\r\n" * many)
        responses = Responses(client)
        assert [responses.next().status for _ in range(many + 1)] == [200] + [502] * many


# ------------------------------------------------------------------------------------ limits and slowness


def test_a_head_past_the_limit_is_refused_with_431_and_counted(site: RoughSite) -> None:
    before = site.drops("header_bytes")
    answer = site.plain.say(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 2 * HEADER_BYTES + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431")
    assert site.backend.received == b""
    assert site.drops("header_bytes") == before + 1


def test_a_head_of_too_many_lines_is_refused_with_431_and_counted(site: RoughSite) -> None:
    before = site.drops("header_count")
    answer = site.plain.say(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 30 + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431")
    assert site.drops("header_count") == before + 1


def test_an_endless_request_line_is_refused_before_it_fills_the_memory(site: RoughSite) -> None:
    with site.plain.open() as client:
        client.sendall(b"GET /" + b"a" * 4 * HEADER_BYTES)
        assert read_all(client).startswith(b"HTTP/1.1 431")


def test_a_head_that_drips_is_cut_off_at_the_time_limit_and_counted(site: RoughSite) -> None:
    before = site.drops("header_timeout")
    with site.plain.open() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b")
        assert read_all(client).startswith(b"HTTP/1.1 408")
    assert site.drops("header_timeout") == before + 1


def test_whoever_connects_and_says_nothing_is_closed(site: RoughSite) -> None:
    with site.plain.open() as client:
        assert read_all(client) == b""


# ------------------------------------------------------------------------------------------- TLS


def hello() -> bytes:
    """A ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="x.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


TLS_NONSENSE: dict[str, Callable[[], bytes]] = {
    "plain HTTP": lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a hello and the end": lambda: hello()[:100],
    "a hello with a broken middle": lambda: hello()[:60] + b"\xff" * 300,
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("name", TLS_NONSENSE)
def test_nonsense_before_the_handshake_ends_in_a_close_and_disturbs_nobody(site: RoughSite, name: str) -> None:
    with socket.create_connection((LOOPBACK, site.front.port), timeout=5) as client:
        client.sendall(TLS_NONSENSE[name]())
        client.shutdown(socket.SHUT_WR)
        read_all(client)
    assert site.backend.received == b""


def test_half_open_handshakes_hold_up_nobody(site: RoughSite) -> None:
    with ExitStack() as stack:
        for part in (b"", hello()[:100], hello()) * 20:
            client = stack.enter_context(socket.create_connection((LOOPBACK, site.front.port), timeout=5))
            client.sendall(part)
        assert site.front.get("/") == (200, b"ok")


def test_a_client_that_breaks_the_connection_after_the_handshake_leaves_nothing_behind(site: RoughSite) -> None:
    for _ in range(10):
        client = site.front.open()
        client.sendall(b"GET / HTTP/1.1\r\nHost: x")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    wait_until(
        lambda: site.balancer.metrics().total("mfalb_listener_connections", listener="tls") == 0,
        "connections to be forgotten",
    )
