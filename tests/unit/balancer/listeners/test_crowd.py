from __future__ import annotations

import pytest

from mfalb.balancer.config.connection_models import ConnectionLimits, SourceNetworks
from mfalb.balancer.listeners.crowd import Crowd, Crowding


def crowd(*, connections: int = 100, per_source: int = 100, ipv4: int = 32, ipv6: int = 64) -> Crowd:
    networks = SourceNetworks(ipv4=ipv4, ipv6=ipv6)
    return Crowd(ConnectionLimits(connections=connections, connections_per_source=per_source, source_networks=networks))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", ""),
    ],
)
def test_a_client_is_counted_under_its_network(address: str, network: str) -> None:
    assert crowd(ipv4=24, ipv6=48).network(address) == network


@pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8::4"])
def test_a_whole_address_is_its_own_network(address: str) -> None:
    assert crowd(ipv6=128).network(address) == address


def test_one_network_s_share_is_full_while_others_have_theirs() -> None:
    clients = crowd(per_source=2)
    for _ in range(2):
        assert clients.crowding("a") is None
        clients.enter("a")
    assert clients.crowding("a") is Crowding.AT_SOURCE
    assert clients.crowding("b") is None


def test_when_all_places_are_taken_that_is_the_reason_for_everyone() -> None:
    clients = crowd(connections=2, per_source=1)
    clients.enter("a")
    clients.enter("b")
    assert clients.crowding("a") is Crowding.EVERYWHERE
    assert clients.crowding("c") is Crowding.EVERYWHERE


def test_who_leaves_makes_room_both_at_its_source_and_everywhere() -> None:
    clients = crowd(connections=2, per_source=1)
    clients.enter("a")
    clients.enter("b")
    clients.leave("a")
    assert clients.crowding("b") is Crowding.AT_SOURCE
    assert clients.crowding("a") is None
