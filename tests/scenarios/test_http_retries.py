"""What may be tried a second time, and where: told by what raw servers received. An OTP is sent once."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
from programs.balancer import Balancer, Metrics
from programs.http_backend import OK, RawBackend, RawPeer, Script, answering
from programs.http_pool import Front, Response, Responses, http_pool, new_front
from programs.ports import LOOPBACK, free_tcp_port

RESERVE: Final = 3
ANY_METHOD: Final = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"]
PREFIX: Final = '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
SUFFIX: Final = "</s:Body></s:Envelope>"
SDK: Final = "/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx"
OTP: Final = "739182"


@dataclass(frozen=True, slots=True)
class Retrying:
    """A balancer before two raw servers, and pools of one of them with a server that refuses."""

    balancer: Balancer
    front: Front
    one: RawBackend
    two: RawBackend
    before: Metrics

    def ask(self, method: str, target: str, body: bytes = b"") -> Response:
        """The answer to one request on a connection of its own."""
        kind = "Content-Type: text/xml; charset=utf-8\r\n" if body.startswith(b"<") else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\n{kind}Content-Length: {len(body)}\r\n\r\n"
        with self.front.open() as client:
            client.sendall(head.encode() + body)
            return Responses(client).next(method)

    def received(self, text: str) -> tuple[int, int]:
        """How often these words reached each of the two."""
        return self.one.received.count(text.encode()), self.two.received.count(text.encode())

    def retries(self, pool: str) -> tuple[float, float]:
        """How many this test has had tried anew in this pool, and how many more would have been."""
        now = self.balancer.metrics()
        names = ("mfalb_pool_retries_total", "mfalb_pool_retries_denied_total")
        spent, denied = (now.total(name, pool=pool) - self.before.total(name, pool=pool) for name in names)
        return spent, denied


@contextmanager
def deaf_server() -> Iterator[str]:
    """The address of a server whose queue is full: no connection is answered any more, as if nobody were there."""
    with socket.create_server((LOOPBACK, 0), backlog=0) as server, ExitStack() as stack:
        address = server.getsockname()
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(address)
        yield f"{LOOPBACK}:{address[1]}"


@contextmanager
def retrying(run_dir: Path) -> Iterator[Retrying]:
    """Starts it; each pool has a path of its name."""
    front = new_front()
    nobody = f"{LOOPBACK}:{free_tcp_port()}"
    with ExitStack() as stack:
        one, two = (stack.enter_context(RawBackend(answering(OK))) for _ in range(2))
        pools = {
            "asked": http_pool(one.address, two.address, retries={"idempotent": True}),
            "unasked": http_pool(one.address, two.address),
            "refusing": http_pool(nobody, two.address),
            "tight": http_pool(nobody, two.address, retries={"reserve": RESERVE, "budget": 0.001}),
            "deaf": http_pool(stack.enter_context(deaf_server()), two.address, connect_timeout="300ms"),
            "deaf_only": http_pool(stack.enter_context(deaf_server()), connect_timeout="300ms"),
            "sdk": http_pool(
                one.address, two.address, affinity={"preset": "azure_mfa_sdk"}, retries={"idempotent": True}
            ),
        }
        routes = [{"path": SDK if name == "sdk" else f"/{name}", "pool": name} for name in pools]
        config = {"listeners": [front.listener("web", routes)], "pools": pools}
        balancer = stack.enter_context(Balancer(config, run_dir / "mfalb", secrets=[OTP]))
        yield Retrying(balancer, front, one, two, balancer.metrics())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retrying]:
    with retrying(tmp_path_factory.mktemp("retries")) as running:
        yield running


@pytest.fixture
def site(running: Retrying) -> Iterator[Retrying]:
    running.one.script = running.two.script = answering(OK)
    yield replace(running, before=running.balancer.metrics())
    running.one.forget()
    running.two.forget()


def broken(peer: RawPeer) -> None:
    """Reads a request's head and what body comes with it, and breaks the connection."""
    if peer.read_head():
        peer.reset()


def closing(peer: RawPeer) -> None:
    """Reads a request's head and ends the connection in good order."""
    peer.read_head()


BREAKING: Final[dict[str, Script]] = {"reset": broken, "closed": closing}

# ------------------------------------------------------------------------------------ nothing was sent


@pytest.mark.parametrize("method", ANY_METHOD)
def test_a_request_whose_server_refuses_goes_to_the_other_one_whatever_its_method(site: Retrying, method: str) -> None:
    body = b"" if method in ("GET", "HEAD", "OPTIONS") else b"payload"
    answers = [site.ask(method, f"/refusing/{turn}", body).status for turn in range(4)]
    assert answers == [200] * 4
    assert [site.received(f"/refusing/{turn} ") for turn in range(4)] == [(0, 1)] * 4
    assert site.two.received.count(b"payload") == (4 if body else 0), "a body that was not sent whole, or sent twice"
    assert site.retries("refusing")[0] > 0, "the server that refuses was never tried"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_does_not_take_connections_is_left_for_another_in_time(site: Retrying, method: str) -> None:
    answers = [site.ask(method, f"/deaf/{method}/{turn}").status for turn in range(2)]
    assert answers == [200] * 2
    assert [site.received(f"/deaf/{method}/{turn} ") for turn in range(2)] == [(0, 1)] * 2
    assert site.retries("deaf")[0] == 1, "each server had its turn"


def test_where_no_server_takes_connections_the_client_is_told_so_in_time(site: Retrying) -> None:
    begun_at = time.monotonic()
    answer = site.ask("GET", "/deaf_only/")
    assert (answer.status, "retry-after" in answer.headers) == (502, True)
    assert 0.25 < time.monotonic() - begun_at < 5


def test_past_the_budget_refusals_are_errors_and_not_retries_and_are_counted(site: Retrying) -> None:
    answers = [site.ask("GET", f"/tight/{turn}") for turn in range(4 * RESERVE)]
    refused = [answer for answer in answers if answer.status == 502]
    assert len(refused) == RESERVE, (
        "half of the requests met the server that refuses, and the budget was for half of those"
    )
    assert all("retry-after" in answer.headers for answer in refused)
    assert {answer.status for answer in answers} == {200, 502}
    assert site.retries("tight") == (RESERVE, RESERVE)
    assert site.received("GET /tight/") == (0, 4 * RESERVE - RESERVE)


# ----------------------------------------------------------------------------------- it was sent, and lost


@pytest.mark.parametrize("how", BREAKING)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_an_idempotent_request_whose_connection_broke_goes_to_the_other_server_when_that_is_asked_for(
    site: Retrying, method: str, how: str
) -> None:
    site.one.script = BREAKING[how]
    assert [site.ask(method, f"/asked/{turn}").status for turn in range(4)] == [200] * 4
    assert site.received(f"{method} /asked/") == (2, 4)
    assert site.retries("asked") == (2, 0)


@pytest.mark.parametrize("how", BREAKING)
def test_where_it_is_not_asked_for_even_a_get_is_sent_once(site: Retrying, how: str) -> None:
    site.one.script = BREAKING[how]
    assert sorted(site.ask("GET", f"/unasked/{turn}").status for turn in range(4)) == [200, 200, 502, 502]
    assert site.received("GET /unasked/") == (2, 2)
    assert site.retries("unasked") == (0, 0)


@pytest.mark.parametrize("how", BREAKING)
@pytest.mark.parametrize("body", [b"", b"payload"])  # without one, only the method says that it may not be repeated
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PROPFIND"])
def test_no_other_method_is_sent_a_second_time_though_retries_are_asked_for(
    site: Retrying, method: str, body: bytes, how: str
) -> None:
    site.one.script = BREAKING[how]
    answers = [site.ask(method, f"/asked/{turn}", body).status for turn in range(4)]
    assert sorted(answers) == [200, 200, 502, 502]
    assert [sum(site.received(f"/asked/{turn} ")) for turn in range(4)] == [1] * 4
    assert site.retries("asked") == (0, 0)


def test_a_get_that_breaks_everywhere_is_tried_once_at_each_server_and_then_an_error(site: Retrying) -> None:
    site.one.script = site.two.script = broken
    assert site.ask("GET", "/asked/nowhere").status == 502
    assert site.received("/asked/nowhere") == (1, 1)


def test_an_answer_that_began_is_never_begun_again_at_another_server(site: Retrying) -> None:
    def half(peer: RawPeer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")

    site.one.script = site.two.script = half
    assert site.ask("GET", "/asked/half").status == 502
    assert sum(site.received("/asked/half")) == 1


# ------------------------------------------------------------------------------------------ an OTP


def soap(operation: str, **texts: str) -> bytes:
    inner = "".join(f"<{name}>{text}</{name}>" for name, text in texts.items())
    return f"{PREFIX}<{operation}>{inner}</{operation}>{SUFFIX}".encode()


def half_one() -> bytes:
    """The answer to half one, which begins a pin."""
    body = soap("PfAuthUser_4Response", authreqid="4711")
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def reading_all_and(end: Script) -> Script:
    """A script: reads a request with its body, and then does that."""

    def script(peer: RawPeer) -> None:
        head = peer.read_head().lower()
        if head:
            peer.read_body(int(head.partition(b"content-length: ")[2].partition(b"\r")[0]))
            end(peer)

    return script


def begun_at(site: Retrying) -> tuple[RawBackend, RawBackend]:
    """Begins a sign-in; returns the server that began it and the other one."""
    site.one.script = site.two.script = reading_all_and(lambda peer: peer.send(half_one()))
    assert site.ask("POST", SDK, soap("PfAuthUser_4", username="alice")).status == 200
    began = site.one if site.one.received else site.two
    return began, site.two if began is site.one else site.one


@pytest.mark.parametrize("how", ["reset", "closed"])
def test_an_otp_whose_connection_broke_reached_its_own_server_once_and_no_other(site: Retrying, how: str) -> None:
    began, other = begun_at(site)
    began.script = reading_all_and(lambda peer: peer.reset() if how == "reset" else None)
    submission = soap("VerifyOneWayOtp", username="alice", authreqid="4711", otp=OTP)
    assert site.ask("POST", SDK, submission).status == 502
    assert (began.received.count(OTP.encode()), other.received) == (1, b"")
    assert site.retries("sdk") == (0, 0)


def test_an_otp_whose_server_is_gone_is_refused_and_given_to_nobody_else(tmp_path: Path) -> None:
    with retrying(tmp_path) as site:
        began, other = begun_at(site)
        began.__exit__(None, None, None)  # its port refuses from here on
        submission = soap("VerifyOneWayOtp", username="alice", authreqid="4711", otp=OTP)
        assert site.ask("POST", SDK, submission).status == 503
        assert OTP.encode() not in began.received + other.received
        assert site.retries("sdk") == (0, 0)
        for _ in range(2):
            assert site.ask("POST", SDK, soap("PfAuthUser_4", username="bob")).status == 200, "new sign-ins go on"
        assert other.received.count(b"bob") == 2


# --------------------------------------------------------------------- kept, and closed when used again


def leaving_at_the_second(peer: RawPeer) -> None:
    """Answers one request, and leaves on the next: as a server whose idle time is over at that moment."""
    peer.read_head()
    peer.send(OK)
    peer.read_head()


def test_a_get_on_a_kept_connection_that_closes_is_asked_anew_and_a_post_is_not(site: Retrying) -> None:
    site.one.script = site.two.script = leaving_at_the_second
    for turn in range(2):
        assert site.ask("GET", f"/unasked/first/{turn}").status == 200
    assert [site.ask("GET", f"/unasked/get/{turn}").status for turn in range(2)] == [200, 200]
    assert site.received("/unasked/get/") == (2, 2), "each on the connection that was kept, and on a fresh one"
    assert [site.ask("POST", f"/unasked/post/{turn}").status for turn in range(2)] == [502, 502]
    assert site.received("/unasked/post/") == (1, 1)
