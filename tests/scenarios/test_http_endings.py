"""Where messages end, and what happens when somebody leaves before that: nothing is mixed up, nothing is sent twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from programs.certificates import CertificateFiles
from programs.http_backend import RawPeer, answering, pattern
from programs.http_pool import Responses, read_all
from programs.http_sites import Site, smooth_site
from programs.process import wait_until


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


# ---------------------------------------------------------------------------- answers without a body


@pytest.mark.parametrize("target", ["/bytes/5000", "/bytes/5000?framing=chunked"])
def test_head_is_answered_without_a_body_and_the_connection_goes_on(site: Site, target: str) -> None:
    with site.front.open() as client:
        responses = Responses(client)
        for _ in range(3):
            client.sendall(f"HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert responses.next("HEAD").status == 200
            client.sendall(b"GET /bytes/3 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert responses.next().body == b"".join(pattern(3))


HEAD_ANSWERS = {
    "with a length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "without any framing": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n",
}


@pytest.mark.parametrize("name", HEAD_ANSWERS)
def test_no_byte_follows_an_answer_to_head_however_it_is_framed(site: Site, name: str) -> None:
    site.raw.script = answering(HEAD_ANSWERS[name])
    with site.front.open() as client:
        client.sendall(b"HEAD /raw HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere/../ HTTP/1.1\r\nHost: x\r\n\r\n")
        responses = Responses(client)
        assert responses.next("HEAD").status == 200
        assert responses.next().status == 400


def test_a_refusal_of_head_has_no_body_either(site: Site) -> None:
    with site.front.open() as client:
        client.sendall(b"HEAD /../ HTTP/1.1\r\nHost: x\r\n\r\nGET /bytes/2 HTTP/1.1\r\nHost: x\r\n\r\n")
        responses = Responses(client)
        assert responses.next("HEAD").status == 400
        assert responses.next().status == 200


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body_end_at_once_and_the_connection_goes_on(site: Site, status: int) -> None:
    with site.front.open() as client:
        responses = Responses(client)
        for _ in range(3):
            client.sendall(b"GET /status/%d HTTP/1.1\r\nHost: x\r\n\r\n" % status)
            answer = responses.next()
            assert (answer.status, answer.headers["etag"]) == (status, '"tag"')
            assert "transfer-encoding" not in answer.headers


def test_a_204_with_a_length_loses_it_on_the_way(site: Site) -> None:
    site.raw.script = answering(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")
    with site.front.open() as client:
        client.sendall(b"GET /raw HTTP/1.1\r\nHost: x\r\n\r\nGET /bytes/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        responses = Responses(client)
        assert "content-length" not in responses.next().headers
        assert responses.next().status == 200


# ------------------------------------------------------------------------------------ versions, interim


def test_100_continue_comes_from_the_backend_before_the_body_is_sent(site: Site) -> None:
    with site.front.open() as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        responses = Responses(client)
        assert responses.next().status == 100
        client.sendall(b"hello")
        assert json.loads(responses.next().body)["length"] == 5


def test_a_backend_that_ends_its_answer_by_closing_reaches_a_1_1_client_in_chunks(site: Site) -> None:
    def script(peer: RawPeer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n" + b"a" * 100_000)

    site.raw.script = script
    with site.front.open() as client:
        client.sendall(b"GET /raw HTTP/1.1\r\nHost: x\r\n\r\n")
        responses = Responses(client)
        answer = responses.next()
        assert (answer.headers["transfer-encoding"], answer.body) == ("chunked", b"a" * 100_000)
        client.sendall(b"GET /bytes/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert responses.next().status == 200


def test_a_1_0_client_gets_a_chunked_answer_ended_by_a_close(site: Site) -> None:
    answer = site.front.say(b"GET /bytes/100000?framing=chunked HTTP/1.0\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert b"connection: close" in head.lower()
    assert body == b"".join(pattern(100_000))


def test_a_1_0_client_may_keep_its_connection_when_it_asks(site: Site) -> None:
    with site.front.open() as client:
        responses = Responses(client)
        for _ in range(3):
            client.sendall(b"GET /bytes/10 HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")
            answer = responses.next()
            assert (answer.headers["connection"], len(answer.body)) == ("keep-alive", 10)


# ------------------------------------------------------------------- connections that end when used again


def leaving_at_the_second(peer: RawPeer) -> None:
    """Answers one request, reads the next one, and closes: as a server whose idle time is over at that moment."""
    peer.read_head()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    peer.read_head()


def test_an_otp_that_met_a_closing_connection_is_never_sent_twice(site: Site) -> None:
    site.raw.script = leaving_at_the_second
    assert site.front.get("/raw")[0] == 200
    with site.front.open() as client:
        client.sendall(b"POST /raw/otp HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n123")
        assert Responses(client).next().status == 502
    assert site.raw.received.count(b"/raw/otp") == 1


def test_a_get_that_met_a_closing_connection_is_asked_again_on_a_fresh_one(site: Site) -> None:
    site.raw.script = leaving_at_the_second
    for _ in range(4):
        assert site.front.get("/raw") == (200, b"ok")


def test_a_get_whose_answer_had_begun_is_never_asked_again(site: Site) -> None:
    def script(peer: RawPeer) -> None:
        leaving_at_the_second(peer)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal")

    site.raw.script = script
    assert site.front.get("/raw")[0] == 200
    with site.front.open() as client:
        client.sendall(b"GET /raw/half HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises((EOFError, OSError)):
            Responses(client).next()
    assert site.raw.received.count(b"/raw/half") == 1


# ------------------------------------------------------------------------------------- ends before the end


def test_a_client_that_leaves_midway_frees_the_backend(site: Site) -> None:
    done = threading.Event()

    def script(peer: RawPeer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        peer.read_body(1)  # until the balancer lets go
        done.set()

    site.raw.script = script
    client = site.front.open()
    client.sendall(b"GET /raw HTTP/1.1\r\nHost: x\r\n\r\n")
    client.recv(10)
    client.close()
    assert done.wait(5), "the backend still answers a client that left"
    wait_until(
        lambda: site.balancer.metrics().total("mfalb_backend_active", pool="raw") == 0, "the exchange to be over"
    )


def test_an_answer_that_comes_before_the_body_is_passed_on_and_nothing_is_mixed_up(site: Site) -> None:
    for _ in range(3):
        with site.front.open() as client:
            client.sendall(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n" + bytes(100_000))
            responses = Responses(client)
            answer = responses.next()
            assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert site.front.get("/bytes/5")[1] == b"".join(pattern(5))


def test_the_rest_of_a_body_that_was_answered_early_never_becomes_a_request(site: Site) -> None:
    site.raw.script = answering(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    rest = b"GET /raw/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    with site.front.open() as client:
        client.sendall(b"POST /raw HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nhello" % (5 + len(rest)))
        assert Responses(client).next().status == 413
        client.sendall(rest)
        assert read_all(client) == b""
    for _ in range(2):  # neither in this client's name nor, on a used connection, in another's
        assert site.front.get("/raw")[0] == 413
    assert b"smuggled" not in site.raw.received


def test_nothing_is_left_open_when_everybody_has_gone(site: Site) -> None:
    metrics = site.balancer.metrics
    wait_until(lambda: metrics().total("mfalb_listener_connections") == 0, "connections to be forgotten")
    assert metrics().total("mfalb_backend_active") == 0
