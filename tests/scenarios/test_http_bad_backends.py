"""Whatever backends send, clients get a whole answer, a clear refusal or a visibly broken one, and only their own."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator

import pytest
from programs.certificates import CertificateFiles
from programs.http_backend import OK, RawPeer, Script, answering
from programs.http_pool import Responses
from programs.http_sites import RoughSite, rough_site


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles) -> Iterator[RoughSite]:
    with rough_site(tmp_path_factory.mktemp("rough"), certificate) as running:
        yield running


@pytest.fixture
def site(running: RoughSite) -> Iterator[RoughSite]:
    with running.served():
        yield running


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
def test_a_backend_that_gives_no_answer_is_told_to_the_client_as_502(site: RoughSite, name: str) -> None:
    site.backend.script = NO_ANSWER[name]
    before = failed_answers(site)
    status, body = site.front.get("/")
    assert status == 502, f"{status} {body!r}"
    assert body.startswith(b"The server"), "the body is the balancer's own"
    assert failed_answers(site) == before + 1


def failed_answers(site: RoughSite) -> float:
    """Answers that backends owed and the balancer gave in their place."""
    reasons = ("backend_broke", "backend_garbage")
    return sum(site.counted("mfalb_listener_answers_total", answer=reason) for reason in reasons)


TRUNCATED = {
    "a close": saying(HEAD_OF_100 + b"only this", close),
    "a reset": saying(HEAD_OF_100 + b"only this", reset),
    "a cut chunk": saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nonly this", close),
    "no last chunk": saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n", close),
    "a broken chunk": saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\nzz\r\n", close),
}


@pytest.mark.parametrize("name", TRUNCATED)
@pytest.mark.parametrize("is_tls", [True, False])
def test_an_answer_that_is_cut_off_never_looks_whole(site: RoughSite, name: str, *, is_tls: bool) -> None:
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
    site: RoughSite, *, is_tls: bool
) -> None:
    site.backend.script = TRUNCATED["no last chunk"]
    with (site.front if is_tls else site.plain).open(is_strict=True) as client:
        client.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        with pytest.raises((ConnectionError, ssl.SSLError)):
            Responses(client).next()


def test_a_silent_backend_ends_in_504_after_the_time_limit(site: RoughSite) -> None:
    site.backend.script = saying(b"", wait)
    assert site.front.get("/")[0] == 504
    assert site.counted("mfalb_listener_answers_total", answer="backend_silent") >= 1


def test_an_answer_that_stalls_midway_is_cut_off_visibly(site: RoughSite) -> None:
    site.backend.script = saying(HEAD_OF_100 + b"only this", wait)
    with site.front.open() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises((EOFError, ConnectionError, ssl.SSLError)):
            Responses(client).next()


def test_an_answer_nobody_asked_for_is_never_given_to_the_next_request(site: RoughSite) -> None:
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
def test_half_an_answer_nobody_asked_for_spoils_no_connection_of_the_pool(site: RoughSite, tail: bytes) -> None:
    site.backend.script = answering(OK + tail)
    for _ in range(4):
        assert site.front.get("/") == (200, b"ok")


def test_a_body_after_an_answer_to_head_is_never_taken_for_an_answer(site: RoughSite) -> None:
    site.backend.script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned", OK)
    with site.plain.open() as client:
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        responses = Responses(client)
        assert responses.next("HEAD").status == 200
        assert responses.next().body in (b"ok", b"poisoned")  # a fresh connection's own answer, in its own frame
    assert site.plain.get("/")[0] == 200


def test_a_certificate_that_does_not_verify_is_refused_and_counted(site: RoughSite) -> None:
    before = site.counted("mfalb_backend_failures_total", pool="tls")
    assert site.front.get("/untrusted")[0] == 502
    assert site.counted("mfalb_backend_failures_total", pool="tls") == before + 1
    assert "CERTIFICATE_VERIFY_FAILED" in site.balancer.log()


def test_a_service_whose_servers_are_gone_is_answered_at_once_and_counted(site: RoughSite) -> None:
    assert site.front.get("/gone")[0] == 502
    assert site.counted("mfalb_listener_answers_total", answer="backend_refused") >= 1
