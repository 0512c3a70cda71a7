"""Whatever clients and backends send, the balancer answers clearly or closes, counts it, and goes on serving."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from programs.balancer import Balancer
from programs.certificates import CertificateFiles, make_certificate
from programs.http_backend import OK, RawBackend, RawPeer, Script, answering
from programs.http_pool import Front, Responses, http_pool, new_front, read_all
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import wait_until

HEADER_BYTES = 8192


@dataclass(frozen=True)
class Site:
    """A running balancer before one raw backend (`/`), one that speaks TLS nobody trusts (`/untrusted`), no other."""

    balancer: Balancer
    front: Front
    plain: Front
    backend: RawBackend

    def drops(self, reason: str) -> float:
        return self.balancer.metrics().total("mfalb_listener_drops_total", reason=reason)

    def counted(self, name: str, **labels: str) -> float:
        """The value of a counter; 0 before its first event."""
        try:
            return self.balancer.metrics().total(name, **labels)
        except KeyError:
            return 0

    def assert_serves(self) -> None:
        self.backend.script = answering(OK)
        assert self.front.get("/") == (200, b"ok")
        assert self.plain.get("/") == (200, b"ok")


def untrusted_tls(context: ssl.SSLContext) -> Script:
    def script(peer: RawPeer) -> None:
        context.wrap_socket(peer.socket, server_side=True).close()

    return script


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles) -> Iterator[Site]:
    stranger = make_certificate(tmp_path_factory.mktemp("stranger"), LOOPBACK)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(stranger.cert, stranger.key)
    front, plain = new_front(certificate), new_front()
    routes = [
        {"path": "/", "pool": "raw"},
        {"path": "/untrusted", "pool": "untrusted"},
        {"path": "/gone", "pool": "gone"},
    ]
    limits = {"header_bytes": f"{HEADER_BYTES}B", "header_count": 20, "header_timeout": "1s", "idle_timeout": "1s"}
    with ExitStack() as stack:
        backend = stack.enter_context(RawBackend(answering(OK)))
        impostor = stack.enter_context(RawBackend(untrusted_tls(context)))
        config = {
            "listeners": [front.listener("tls", routes, limits=limits), plain.listener("plain", routes, limits=limits)],
            "pools": {
                "raw": http_pool(backend.address, response_timeout="2s"),
                "untrusted": http_pool(impostor.address, upstream_tls={"ca": str(certificate.ca)}),
                "gone": http_pool(f"{LOOPBACK}:{free_tcp_port()}"),
            },
        }
        balancer = stack.enter_context(Balancer(config, tmp_path_factory.mktemp("bad_input") / "mfalb"))
        yield Site(balancer, front, plain, backend)


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The site, whose backend's connections are forgotten before each test, and which must serve after it."""
    running.backend.script = answering(OK)
    yield running
    running.backend.forget()
    running.assert_serves()
    running.backend.forget()
    assert "Traceback" not in running.balancer.log(), running.balancer.tail()


# ---------------------------------------------------------------------------------- requests in two minds

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

AMBIGUOUS = {
    "length and chunked": HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": HEAD + b"Content-Length: 0\r\nContent-Length: 35\r\n\r\n" + SMUGGLED,
    "two equal lengths": HEAD + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    "a list of lengths": HEAD + b"Content-Length: 0, 35\r\n\r\n" + SMUGGLED,
    "an empty length": HEAD + b"Content-Length: \r\n\r\n" + SMUGGLED,
    "a length with a plus": HEAD + b"Content-Length: +35\r\n\r\n" + SMUGGLED,
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "a length in hex": HEAD + b"Content-Length: 0x23\r\n\r\n" + SMUGGLED,
    "a length with an underscore": HEAD + b"Content-Length: 3_5\r\n\r\n" + SMUGGLED,
    "a length past 64 bits": HEAD + b"Content-Length: 18446744073709551617\r\n\r\n" + SMUGGLED,
    "an unknown transfer coding": HEAD + b"Transfer-Encoding: identity\r\n\r\n" + SMUGGLED,
    "a comma before chunked": HEAD + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two transfer codings": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lines of codings": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked with a tail": HEAD + b"Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked in 1.0": b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a blank before the colon": HEAD + b"Content-Length : 35\r\n\r\n" + SMUGGLED,
    "a folded line": HEAD + b"X-A: b\r\n Content-Length: 35\r\n\r\n" + SMUGGLED,
    "a line without a colon": HEAD + b"Content-Length 35\r\n\r\n" + SMUGGLED,
    "a NUL in a value": HEAD + b"X-A: a\0b\r\n\r\n" + SMUGGLED,
    "a CR in a value": HEAD + b"X-A: a\rContent-Length: 35\r\n\r\n" + SMUGGLED,
    "bare line feeds": b"POST / HTTP/1.1\nHost: x\nContent-Length: 35\n\n" + SMUGGLED,
    "a control byte in a name": HEAD + b"X\x01A: b\r\n\r\n" + SMUGGLED,
    "no host": b"GET / HTTP/1.1\r\n\r\n" + SMUGGLED,
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + SMUGGLED,
    "an upgrade with a body": HEAD + b"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 35\r\n\r\n" + SMUGGLED,
    "http 2 without being asked": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "connect": b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n" + SMUGGLED,
    "a foreign scheme": b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a blank in the target": b"GET / a HTTP/1.1\r\nHost: x\r\n\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n",
    "a mail client": b"EHLO mail.example.test\r\n\r\n",
}  # fmt: skip

BAD_CHUNKS = {
    "a size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size with a plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a size with an underscore": b"1_0\r\nhello\r\n0\r\n\r\n",
    "a blank before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "a size past 64 bits": b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "more than the size": b"5\r\nhelloo\r\n0\r\n\r\n",
    "bare line feeds": b"5\nhello\n0\n\n",
    "an extra line before the last chunk": b"5\r\nhello\r\n\r\n0\r\n\r\n",
    "a bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_request_in_two_minds_is_refused_closed_and_never_forwarded(site: Site, name: str) -> None:
    answer = site.plain.say(AMBIGUOUS[name])
    assert answer[9:10] in (b"4", b"5"), f"not refused: {answer[:80]!r}"
    assert answer.count(b"HTTP/1.1 ") == 1, f"more than one answer: {answer!r}"
    assert b"connection: close" in answer.lower()
    assert site.backend.received == b"", "something of it reached the backend"


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_a_broken_chunked_body_ends_the_exchange_and_nothing_behind_it_is_served(site: Site, name: str) -> None:
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
def test_a_path_that_a_backend_would_resolve_to_another_is_refused(site: Site, target: bytes) -> None:
    answer = site.plain.say(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target)
    assert answer.startswith(b"HTTP/1.1 400"), f"{answer[:80]!r}"
    assert site.backend.received == b""


def test_bytes_behind_an_upgrade_request_are_a_request_of_their_own_and_upgrade_is_not_passed_on(site: Site) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with site.plain.open() as client:
        client.sendall(head + b"GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_all(client).count(b"HTTP/1.1 200 OK") == 2
    assert b"pgrade" not in site.backend.received
    assert site.backend.received.count(b"X-Forwarded-For") == 2


def test_nothing_is_served_behind_a_refusal_that_says_close(site: Site) -> None:
    refused = b"POST /a/../b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
    answer = site.plain.say(refused + b"hello" + SMUGGLED + b"garbage\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1, f"{answer!r}"
    assert site.backend.received == b""


def test_nothing_is_served_behind_an_unroutable_body_either(site: Site) -> None:
    gone = b"POST /gone HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
    answer = site.plain.say(gone + b"hello" + SMUGGLED + b"garbage\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502")


def test_many_refused_requests_behind_a_slow_one_are_answered_in_order(site: Site) -> None:
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


def test_many_bodyless_questions_for_a_dead_service_behind_a_slow_one_are_answered(site: Site) -> None:
    many = 2000
    with site.plain.open() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /gone HTTP/1.1\r\nHost: x\r\n\r\n" * many)
        responses = Responses(client)
        assert [responses.next().status for _ in range(many + 1)] == [200] + [502] * many


# ------------------------------------------------------------------------------------ limits and slowness


def test_a_head_past_the_limit_is_refused_with_431_and_counted(site: Site) -> None:
    before = site.counted("mfalb_listener_drops_total", reason="header_bytes")
    answer = site.plain.say(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 2 * HEADER_BYTES + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431")
    assert site.backend.received == b""
    assert site.drops("header_bytes") == before + 1


def test_a_head_of_too_many_lines_is_refused_with_431_and_counted(site: Site) -> None:
    before = site.counted("mfalb_listener_drops_total", reason="header_count")
    answer = site.plain.say(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 30 + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431")
    assert site.drops("header_count") == before + 1


def test_an_endless_request_line_is_refused_before_it_fills_the_memory(site: Site) -> None:
    with site.plain.open() as client:
        client.sendall(b"GET /" + b"a" * 4 * HEADER_BYTES)
        assert read_all(client).startswith(b"HTTP/1.1 431")


def test_a_head_that_drips_is_cut_off_at_the_time_limit_and_counted(site: Site) -> None:
    before = site.counted("mfalb_listener_drops_total", reason="header_timeout")
    with site.plain.open() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b")
        assert read_all(client).startswith(b"HTTP/1.1 408")
    assert site.drops("header_timeout") == before + 1


def test_whoever_connects_and_says_nothing_is_closed(site: Site) -> None:
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
def test_nonsense_before_the_handshake_ends_in_a_close_and_disturbs_nobody(site: Site, name: str) -> None:
    with socket.create_connection((LOOPBACK, site.front.port), timeout=5) as client:
        client.sendall(TLS_NONSENSE[name]())
        client.shutdown(socket.SHUT_WR)
        read_all(client)
    assert site.backend.received == b""


def test_half_open_handshakes_hold_up_nobody(site: Site) -> None:
    with ExitStack() as stack:
        for part in (b"", hello()[:100], hello()) * 20:
            client = stack.enter_context(socket.create_connection((LOOPBACK, site.front.port), timeout=5))
            client.sendall(part)
        site.assert_serves()


def test_a_client_that_breaks_the_connection_after_the_handshake_leaves_nothing_behind(site: Site) -> None:
    for _ in range(10):
        client = site.front.open()
        client.sendall(b"GET / HTTP/1.1\r\nHost: x")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    wait_until(
        lambda: site.balancer.metrics().total("mfalb_listener_connections", listener="tls") == 0,
        "connections to be forgotten",
    )


# ------------------------------------------------------------------------------------- bad backends

HEAD_OF_100 = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


def saying(answer: bytes, end: Callable[[RawPeer], None]) -> Script:
    """A script that answers each request with these bytes and ends the connection."""

    def script(peer: RawPeer) -> None:
        if peer.read_head():
            peer.send(answer)
            end(peer)

    return script


def close(peer: RawPeer) -> None:
    peer.socket.close()


def reset(peer: RawPeer) -> None:
    peer.reset()


def wait(peer: RawPeer) -> None:
    """Until the balancer has had enough."""
    peer.read_body(1)


NO_ANSWER = {
    "garbage": saying(b"\0\1\2\3 what?\r\n\r\n", close),
    "a mail server": saying(b"220 mail.example.test ESMTP\r\n", close),
    "another version": saying(b"HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\nok", close),
    "nothing": saying(b"", close),
    "a reset": saying(b"", reset),
    "half a head": saying(b"HTTP/1.1 200 OK\r\nContent-Le", close),
    "half a head and a reset": saying(b"HTTP/1.1 200 OK\r\nContent-Le", reset),
    "length and chunked": saying(
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", close
    ),
    "two lengths": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", close),
    "a length that is no number": saying(b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok", close),
    "a folded line": saying(b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok", close),
    "a switch of protocols nobody asked for": saying(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\0\0", close
    ),
    "an endless head": saying(b"HTTP/1.1 200 OK\r\n" + (b"X-A: " + b"b" * 1000 + b"\r\n") * 3000, close),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_ANSWER)
def test_a_backend_that_gives_no_answer_is_told_to_the_client_as_502(site: Site, name: str) -> None:
    site.backend.script = NO_ANSWER[name]
    before = site.counted("mfalb_listener_answers_total", listener="tls")
    status, body = site.front.get("/")
    assert status == 502, f"{status} {body!r}"
    assert body.startswith(b"The server"), "the body is the balancer's own"
    assert site.counted("mfalb_listener_answers_total", listener="tls") == before + 1
    reasons = site.balancer.metrics()
    named = reasons.total("mfalb_listener_answers_total", answer="backend_broke") + reasons.total(
        "mfalb_listener_answers_total", answer="backend_garbage"
    )
    assert named >= 1


TRUNCATED = {
    "a close": saying(HEAD_OF_100 + b"only this", close),
    "a reset": saying(HEAD_OF_100 + b"only this", reset),
    "a cut chunk": saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nonly this", close),
    "no last chunk": saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n", close),
    "a broken chunk": saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\nzz\r\n", close),
}


@pytest.mark.parametrize("name", TRUNCATED)
@pytest.mark.parametrize("is_tls", [True, False])
def test_an_answer_that_is_cut_off_never_looks_whole(site: Site, name: str, *, is_tls: bool) -> None:
    site.backend.script = TRUNCATED[name]
    with (site.front if is_tls else site.plain).open() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            response = Responses(client).next()
        except (EOFError, ConnectionError, ssl.SSLError):
            return  # it broke, visibly
        assert response.status == 502, f"a truncated answer looks whole: {response}"


@pytest.mark.parametrize("is_tls", [True, False])
def test_a_cut_answer_that_ends_by_close_reaches_a_1_0_client_as_a_broken_connection(
    site: Site, *, is_tls: bool
) -> None:
    site.backend.script = TRUNCATED["no last chunk"]
    with (site.front if is_tls else site.plain).open(is_strict=True) as client:
        client.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        with pytest.raises((ConnectionError, ssl.SSLError)):
            Responses(client).next()


def test_a_silent_backend_ends_in_504_after_the_time_limit(site: Site) -> None:
    site.backend.script = saying(b"", wait)
    assert site.front.get("/")[0] == 504
    assert site.counted("mfalb_listener_answers_total", answer="backend_silent") >= 1


def test_an_answer_that_stalls_midway_is_cut_off_visibly(site: Site) -> None:
    site.backend.script = saying(HEAD_OF_100 + b"only this", wait)
    with site.front.open() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises((EOFError, ConnectionError, ssl.SSLError)):
            Responses(client).next()


def test_an_answer_nobody_asked_for_is_never_given_to_the_next_request(site: Site) -> None:
    """Two answers to one request, in one write: the second one must not wait in the pool for somebody else."""
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned"
    site.backend.script = answering(OK + poison)
    with site.plain.open() as client:
        client.sendall(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
        responses = Responses(client)
        assert [responses.next().body for _ in range(2)] == [b"ok", b"ok"]
    assert [site.front.get("/")[1] for _ in range(4)] == [b"ok"] * 4


@pytest.mark.parametrize(
    "tail", [b"H", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"]
)
def test_half_an_answer_nobody_asked_for_spoils_no_connection_of_the_pool(site: Site, tail: bytes) -> None:
    site.backend.script = answering(OK + tail)
    for _ in range(4):
        assert site.front.get("/") == (200, b"ok")


def test_a_body_after_an_answer_to_head_is_never_taken_for_an_answer(site: Site) -> None:
    site.backend.script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned", OK)
    with site.plain.open() as client:
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        responses = Responses(client)
        assert responses.next("HEAD").status == 200
        assert responses.next().body in (b"ok", b"poisoned")  # a fresh connection's own answer, in its own frame
    assert site.plain.get("/")[0] == 200


def test_a_certificate_that_does_not_verify_is_refused_and_counted(site: Site) -> None:
    before = site.counted("mfalb_backend_failures_total", pool="untrusted")
    assert site.front.get("/untrusted")[0] == 502
    assert site.counted("mfalb_backend_failures_total", pool="untrusted") == before + 1
    assert "CERTIFICATE_VERIFY_FAILED" in site.balancer.log()


def test_a_service_whose_servers_are_gone_is_answered_at_once_and_counted(site: Site) -> None:
    assert site.front.get("/gone")[0] == 502
    assert site.counted("mfalb_listener_answers_total", answer="backend_refused") >= 1
