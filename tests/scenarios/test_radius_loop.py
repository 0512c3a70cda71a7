"""Promise: balancers that have each other for backends end a loop at its first round, and chains of them work."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from programs.balancer import Balancer, write_secret
from programs.ports import LOOPBACK, free_udp_port
from programs.process import wait_until
from programs.radius_server import RadiusServer

from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret

SECRETS: Final = ("first-of-the-secrets", "second-of-the-secrets", "third-of-the-secrets")
STATES: Final = [(radius.PROXY_STATE, b"of a proxy"), (radius.PROXY_STATE, b"of another")]


def node(run_dir: Path, port: int, secret: str, backend: tuple[str, str], **listener: Any) -> Balancer:
    """A balancer on that port, whose clients share `secret`, before one backend: its address and secret."""
    address, backend_secret = backend
    config = {
        "listeners": [
            {
                "name": "edge",
                "protocol": "radius",
                "bind": [f"{LOOPBACK}:{port}"],
                "clients": [
                    {
                        "name": "all",
                        "network": "127.0.0.0/8",
                        "secret_file": write_secret(run_dir, "clients", secret),
                    }
                ],
                "pool": "mfa",
                **listener,
            }
        ],
        "pools": {
            "mfa": {
                "backends": [
                    {
                        "name": "next",
                        "address": address,
                        "secret_file": write_secret(run_dir, "next", backend_secret),
                    }
                ]
            }
        },
    }
    return Balancer(config, run_dir / "mfalb", secrets=[secret, backend_secret])


def request(secret: str, service: str, *attributes: tuple[int, bytes]) -> bytes:
    key = SharedSecret(secret.encode())
    body = b"".join(radius.attribute(*one) for one in ((radius.USER_NAME, b"alice"), *attributes))
    if service == "accounting":
        return radius.content_signed_request(radius.ACCOUNTING_REQUEST, 7, body, key, is_mac_added=False)
    return radius.signed_request(radius.ACCESS_REQUEST, 7, os.urandom(16), body, key)


def total(balancer: Balancer, name: str, **labels: str) -> float:
    try:
        return balancer.metrics().total(name, **labels)
    except KeyError:
        return 0.0


@pytest.mark.parametrize("service", ["authentication", "accounting"])
@pytest.mark.parametrize("secrets", [SECRETS[:1] * 2, SECRETS[:2], SECRETS], ids=["one secret", "two", "three nodes"])
def test_f2_a_request_that_comes_back_to_its_balancer_goes_round_once(
    tmp_path: Path, secrets: Sequence[str], service: str
) -> None:
    count = len(secrets)
    ports = [free_udp_port() for _ in secrets]
    with ExitStack() as stack, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        nodes = [
            stack.enter_context(
                node(
                    tmp_path / f"n{number}",
                    port,
                    secrets[number],
                    (f"{LOOPBACK}:{ports[(number + 1) % count]}", secrets[(number + 1) % count]),
                    service=service,
                )
            )
            for number, port in enumerate(ports)
        ]
        client.sendto(request(secrets[0], service), (LOOPBACK, ports[0]))
        wait_until(lambda: total(nodes[0], "mfalb_listener_drops_total", reason="loop") == 1, "the loop to end")
        time.sleep(0.5)  # time for a thousand rounds
        asked = [total(one, "mfalb_listener_requests_total") for one in nodes]
        assert asked == [2.0] + [1.0] * (count - 1)
        assert [total(one, "mfalb_listener_in_flight") for one in nodes] == [1.0] * count
        assert "requests go round in a loop" in nodes[0].log()


@pytest.mark.parametrize("service", ["authentication", "accounting"])
@pytest.mark.parametrize("use", ["auto", "never"])
def test_a_chain_of_balancers_takes_its_own_proxy_states_away_again(tmp_path: Path, service: str, use: str) -> None:
    first, second = free_udp_port(), free_udp_port()
    with ExitStack() as stack, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        server = stack.enter_context(RadiusServer("b1", SECRETS[2]))
        server.answers = lambda asked: [echo(server, asked)]
        for run, port, secret, backend in (
            ("n2", second, SECRETS[1], (server.address, SECRETS[2])),
            ("n1", first, SECRETS[0], (f"{LOOPBACK}:{second}", SECRETS[1])),
        ):
            stack.enter_context(node(tmp_path / run, port, secret, backend, service=service, add_proxy_state=use))
        client.settimeout(5)
        asked = request(SECRETS[0], service, *STATES)
        client.sendto(asked, (LOOPBACK, first))
        answer = radius.read_untrusted(client.recv(4096))
        assert radius.has_valid_response_authenticator(answer, SharedSecret(SECRETS[0].encode()), asked[4:20])
        assert answer.every(radius.PROXY_STATE) == [value for _, value in STATES]
        (came,) = server.requests
        states = came.every(radius.PROXY_STATE)
        assert states[:2] == [value for _, value in STATES]
        assert len(states) == (4 if use == "auto" else 2), "one of each balancer behind the client's"


def echo(server: RadiusServer, asked: Packet) -> bytes:
    """An answer with the request's Proxy-States, as RFC 2865 section 5.33 wants it."""
    states = b"".join(radius.attribute(radius.PROXY_STATE, value) for value in asked.every(radius.PROXY_STATE))
    if asked.code == radius.ACCOUNTING_REQUEST:
        code, sign = radius.ACCOUNTING_RESPONSE, radius.unsigned_response
    else:
        code, sign = radius.ACCESS_ACCEPT, radius.signed_response
    return sign(code, asked.identifier, asked.authenticator, states, server.key)
