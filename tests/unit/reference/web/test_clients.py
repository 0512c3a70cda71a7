from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from mfalb.reference.web.clients import Clients

CLIENTS = Clients(["10.0.0.0/24", "2001:db8::/64"])


class FromTransport:
    """A connection from an address."""

    def __init__(self, peer: str) -> None:
        self.peer = peer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self.peer, 40_000) if name == "peername" else default


@pytest.mark.parametrize(
    ("peer", "told", "client"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", ["198.51.100.1"], "192.0.2.7"),  # a stranger who makes something up
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["198.51.100.1, 192.0.2.7"], "192.0.2.7"),  # what the client itself had sent
        ("10.0.0.1", ["198.51.100.1", "192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7, 10.0.0.9"], "192.0.2.7"),  # two balancers, one behind the other
        ("10.0.0.1", ["10.0.0.8, 10.0.0.9"], "10.0.0.8"),
        ("10.0.0.1", ["192.0.2.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["<script>"], "10.0.0.1"),
        ("2001:db8::1", ["2001:DB8:1::7"], "2001:db8:1::7"),
    ],
)
def test_a_client_is_whom_the_nearest_trusted_proxies_name(peer: str, told: list[str], client: str) -> None:
    headers = CIMultiDict([("X-Forwarded-For", one) for one in told])
    request = make_mocked_request("GET", "/", headers, transport=FromTransport(peer))
    assert CLIENTS.address_of(request) == client
    assert Clients().address_of(request) == peer, "nobody is believed unless the settings say so"


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="balancer"):
        Clients(["balancer"])
