"""Promise: loops, floods and push bombing end here, and the operator is told which device they come through."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from programs.balancer import Balancer
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.pyrad_client import PyradClient
from programs.radius_pool import RadiusPool, radius_pool
from programs.radius_server import RadiusServer

from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret

CLIENT_SECRET: Final = "towards-the-clients-0"
USER: Final = (radius.USER_NAME, b"alice.liddell")


@dataclass(frozen=True)
class Site:
    """A balancer before one server, and a strict client of it."""

    balancer: Balancer
    server: RadiusServer
    pool: RadiusPool
    client: PyradClient

    def sign_in(self, *attributes: tuple[int, bytes]) -> Packet | None:
        """The answer to a new sign-in of the user; None when none comes in half a second."""
        answer = self.client.ask(self.client.request([USER, *attributes], "hello"))
        return None if answer is None else radius.read_untrusted(answer)

    def told_of_the_client(self, reason: str) -> float:
        """The metric that names the NAS."""
        labels = {"role": "client", "peer": "loopback", "reason": reason}
        try:
            return self.balancer.metrics().total("mfalb_radius_peer_drops_total", **labels)
        except KeyError:
            return 0.0

    def warnings(self, event: str) -> list[str]:
        return [line for line in self.balancer.log().splitlines() if event in line]


@contextmanager
def site(run_dir: Path, listener: Mapping[str, Any], client: Mapping[str, Any] | None = None) -> Iterator[Site]:
    """`listener` and `client` are keys to add to the configuration of the one listener and its one client."""
    with ExitStack() as stack:
        server = stack.enter_context(RadiusServer("b1", "towards-the-server-1"))
        pool = radius_pool((server,), run_dir, client_secret=CLIENT_SECRET)
        (listening,) = pool.config["listeners"]
        listening.update(listener)
        listening["clients"][0].update(client or {})
        secrets = (*pool.secrets, USER[1].decode())  # no user's name may be in the log either
        balancer = stack.enter_context(Balancer(pool.config, run_dir / "mfalb", secrets=secrets))
        pyrad = stack.enter_context(PyradClient(pool.port, CLIENT_SECRET, timeout_s=0.5))
        yield Site(balancer, server, pool, pyrad)


@pytest.mark.parametrize("answer", ["reject", "silence"])
def test_push_bombing_is_refused_and_the_nas_is_named_in_a_metric_and_in_the_log(tmp_path: Path, answer: str) -> None:
    with site(tmp_path, {"user_limit": {"sign_ins": 2, "window": "1m", "answer": answer}}) as here:
        for _ in range(2):
            accepted = here.sign_in()
            assert accepted is not None
            assert accepted.code == radius.ACCESS_ACCEPT
        for _ in range(3):
            refused = here.sign_in()
            if answer == "reject":
                assert refused is not None
                assert refused.code == radius.ACCESS_REJECT
                assert b"wait" in (refused.first(radius.REPLY_MESSAGE) or b"")
            else:
                assert refused is None
        assert len(here.server.requests) == 2, "the phone rang twice"
        assert here.told_of_the_client("user_limit") == 3
        (line,) = here.warnings("begun too often")
        assert "client=loopback" in line


def test_a_state_of_a_server_s_own_continues_a_sign_in_past_the_limit_and_a_made_up_one_does_not(
    tmp_path: Path,
) -> None:
    with site(tmp_path, {"user_limit": {"sign_ins": 2, "window": "1m"}}) as here:
        state = radius.attribute(radius.STATE, b"the server's own")
        here.server.answers = lambda request: [here.server.signed(request, radius.ACCESS_CHALLENGE, state)]
        first, _ = here.sign_in(), here.sign_in()
        assert first is not None
        assert first.code == radius.ACCESS_CHALLENGE
        here.server.answers = here.server.accept
        refused, made_up = here.sign_in(), here.sign_in((radius.STATE, b"made up"))
        continued = here.sign_in((radius.STATE, b"the server's own"))
        assert refused is not None
        assert made_up is not None
        assert continued is not None
        assert [refused.code, made_up.code, continued.code] == [3, 3, 2]


def test_a_client_past_its_rate_meets_silence_and_is_named(tmp_path: Path) -> None:
    with site(tmp_path, {}, {"rate_limit": 1}) as here:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for identifier in range(20):
                sock.sendto(request(identifier), (LOOPBACK, here.pool.port))
            wait_until(lambda: here.told_of_the_client("rate_limit") >= 18, "the flood to be counted")
        wait_until(
            lambda: len(here.server.requests) + here.told_of_the_client("rate_limit") == 20, "the others to be served"
        )
        (line,) = here.warnings("begins more than it may")
        assert "client=loopback" in line


def request(identifier: int, *attributes: tuple[int, bytes]) -> bytes:
    body = b"".join(radius.attribute(*one) for one in (USER, *attributes))
    secret = SharedSecret(CLIENT_SECRET.encode())
    return radius.signed_request(radius.ACCESS_REQUEST, identifier, os.urandom(16), body, secret)


def test_f2_more_proxy_states_than_the_limit_are_dropped_and_as_many_are_answered(tmp_path: Path) -> None:
    with site(tmp_path, {"proxy_state_limit": 3}) as here:
        states = [(radius.PROXY_STATE, b"%d" % number) for number in range(4)]
        assert here.sign_in(*states) is None
        assert here.sign_in((radius.STATE, b"s"), *states) is None, "a State is no excuse"
        assert here.told_of_the_client("loop") == 2
        assert here.sign_in(*states[:3]) is not None
        assert len(here.server.requests) == 1
        (line,) = here.warnings("requests go round in a loop")
        assert "client=loopback" in line


def test_f2_a_request_from_the_socket_that_a_backend_listens_on_is_dropped(tmp_path: Path) -> None:
    """127.0.0.0/8 is the client's network, and the server is in it: only its very socket cannot be a client's."""
    with site(tmp_path, {}) as here:
        for identifier in range(3):
            here.server.send(request(identifier), (LOOPBACK, here.pool.port))
        wait_until(lambda: here.told_of_the_client("loop") == 3, "the loop to be counted")
        assert here.server.requests == []
        assert here.sign_in() is not None, "another socket of that host may be a client's"


def test_a1_an_unknown_client_is_told_by_its_address_once_and_counted_each_time(tmp_path: Path) -> None:
    with site(tmp_path, {}, {"network": "127.0.0.1"}) as here:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.9", 0))
            stranger.settimeout(0.2)
            for identifier in range(50):
                stranger.sendto(request(identifier), (LOOPBACK, here.pool.port))
            wait_until(
                lambda: here.balancer.metrics().total("mfalb_listener_drops_total", reason="unknown_client") == 50,
                "all to be counted",
            )
            with pytest.raises(TimeoutError):
                stranger.recv(4096)
        (line,) = here.warnings("not configured")
        assert "host=127.0.0.9" in line
        assert here.server.requests == []
        assert here.sign_in() is not None


def test_d1_d2_status_server_is_answered_here_once_each_and_a_flood_of_them_is_cut(tmp_path: Path) -> None:
    with site(tmp_path, {}) as here:
        first = here.client.ask(here.client.request([], is_status=True))
        assert first is not None
        answer = radius.read_untrusted(first)
        assert answer.code == radius.ACCESS_ACCEPT
        assert [kind for kind, _ in answer.attributes()] == [radius.MESSAGE_AUTHENTICATOR]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1.0)
            secret = SharedSecret(CLIENT_SECRET.encode())
            authenticators = [os.urandom(16) for _ in range(100)]
            for identifier, authenticator in enumerate(authenticators):
                status = radius.signed_request(radius.STATUS_SERVER, identifier, authenticator, b"", secret)
                sock.sendto(status, (LOOPBACK, here.pool.port))
            wait_until(lambda: here.told_of_the_client("status_limit") >= 80, "the flood to be cut")
            answered: list[int] = []
            with suppress(TimeoutError):
                while True:
                    answered.append(sock.recv(4096)[1])
        assert len(answered) == len(set(answered)) == 100 - here.told_of_the_client("status_limit")
        assert here.server.requests == []
        assert not {probe.authenticator for probe in here.server.probes} & set(authenticators), "never passed on"
        assert here.sign_in() is not None
