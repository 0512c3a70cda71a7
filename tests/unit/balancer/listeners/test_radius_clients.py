from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from mfalb.balancer.config.radius_models import RadiusClient
from mfalb.balancer.config.values import Secret
from mfalb.balancer.exchange.radius_peer import Secrets
from mfalb.balancer.listeners import radius_clients
from mfalb.balancer.listeners.radius_clients import RadiusClients


def client(name: str, network: str, *, must_sign: bool = True) -> RadiusClient:
    return RadiusClient(
        name=name,
        network=ip_network(network),
        secret=Secret(b"towards-" + name.encode()),
        require_message_authenticator=must_sign,
    )


CLIENTS = (
    client("everywhere", "0.0.0.0/0"),
    client("site", "10.0.0.0/8"),
    client("old_vpn", "10.0.5.7/32", must_sign=False),
    client("floor", "10.0.5.0/24"),
    client("six", "2001:db8::/32"),
    client("one_of_six", "2001:db8::7/128"),
)


def found(address: str, clients: tuple[RadiusClient, ...] = CLIENTS) -> str | None:
    peer = RadiusClients(clients, Secrets()).find(ip_address(address).packed)
    return None if peer is None else peer.name


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("10.0.5.7", "old_vpn"),
        ("10.0.5.8", "floor"),
        ("10.9.9.9", "site"),
        ("192.0.2.1", "everywhere"),
        ("2001:db8::7", "one_of_six"),
        ("2001:db8::8", "six"),
        ("2001:db9::1", None),
        ("::ffff:10.0.5.7", None),
    ],
)
def test_the_longest_network_that_holds_the_address_wins(address: str, name: str | None) -> None:
    assert found(address) == name
    assert found(address, tuple(reversed(CLIENTS))) == name


def test_an_address_of_nobody_is_nobody_s() -> None:
    assert found("192.0.2.1", (client("site", "10.0.0.0/8"),)) is None


def test_a_client_comes_with_its_secret_and_its_duty_to_sign() -> None:
    clients = RadiusClients(CLIENTS, Secrets())
    old, floor = (clients.find(ip_address(address).packed) for address in ("10.0.5.7", "10.0.5.8"))
    assert old is not None
    assert floor is not None
    assert (old.secret.value, old.requires_message_authenticator) == (b"towards-old_vpn", False)
    assert (floor.secret.value, floor.requires_message_authenticator) == (b"towards-floor", True)


def test_a_client_comes_with_what_else_is_asked_of_its_packets() -> None:
    asked = {"limit_proxy_state": False, "send_message_authenticator": False}
    careless = client("careless", "10.0.0.0/8").model_copy(update=asked)
    peers = RadiusClients((careless, client("careful", "11.0.0.0/8")), Secrets()).peers
    assert [(peer.limits_proxy_state, peer.is_signed_to) for peer in peers] == [(False, False), (True, True)]


def test_a_client_is_the_same_value_each_time_so_that_its_secret_is_prepared_once() -> None:
    clients = RadiusClients(CLIENTS, Secrets())
    one, two = (clients.find(ip_address(f"10.0.5.{n}").packed) for n in (8, 9))
    assert one is two


def test_forged_sources_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radius_clients, "_CACHE_LIMIT", 100)
    clients = RadiusClients(CLIENTS[1:2], Secrets())
    for number in range(1000):
        expected = "site" if number % 2 else None
        address = f"10.0.{number >> 8}.{number & 255}" if number % 2 else f"192.0.{number >> 8}.{number & 255}"
        peer = clients.find(ip_address(address).packed)
        assert (peer.name if peer else None) == expected
        assert len(clients._cache) <= 100
