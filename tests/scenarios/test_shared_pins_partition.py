"""Promise: a network that loses all packets towards the pin store costs no sign-in at one node, and is found healed.

Nodes, store and servers are network namespaces. Nothing is refused or reset there: packets vanish.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from programs.sms_network import NODES, Begun, SmsNetwork, node_of, sms_network
from programs.sms_site import users
from programs.two_nodes import Node

from mfalb.reference.config.values import User

USERS = users(20)
A, B = NODES["a"], NODES["b"]
TIMEOUT_S = 0.8
WAITS = 8  # of sign-ins one after the other: 3 wait for a store in vain, and a busy machine may hold up some others
SLACK_S = 1.5  # such a machine may take its time to start a client


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SmsNetwork]:
    with ExitStack() as stack:
        site = stack.enter_context(sms_network(tmp_path, USERS))
        for name in NODES:
            stack.enter_context(node_of(site, name, tmp_path, timeout=f"{TIMEOUT_S * 1000:.0f}ms"))
        yield site


def signed_in(site: SmsNetwork, address: str, some: Sequence[User] = USERS) -> list[int]:
    """How many could, both halves at one node: by RADIUS, and by the SDK."""
    by_radius = site.end_by_radius(address, site.begin_by_radius(address, some))
    return [by_radius, site.end_by_sdk(address, site.begin_by_sdk(address, some))]


def waits_s(site: SmsNetwork, address: str) -> list[float]:
    """How long each user's first half took, one after the other."""
    took_s = []
    for user in USERS:
        began = time.monotonic()
        site.begin_by_radius(address, [user])
        took_s.append(time.monotonic() - began)
    return took_s


def without_the_store(node: Node) -> int:
    """Pins that it could not share, as it counts them."""
    return node.operations("store", "store_away") + node.operations("store", "stored_late")


def begun_by_both(site: SmsNetwork, address: str) -> list[list[Begun]]:
    return [site.begin_by_radius(address, USERS), site.begin_by_sdk(address, USERS)]


def ended_by_both(site: SmsNetwork, address: str, begun: list[list[Begun]]) -> list[int]:
    return [site.end_by_radius(address, begun[0]), site.end_by_sdk(address, begun[1])]


def test_cut_off_from_the_store_both_nodes_go_on_wait_no_longer_than_allowed_and_find_it_again(
    site: SmsNetwork,
) -> None:
    one, two = site.nodes["a"], site.nodes["b"]
    usual_s = max(waits_s(site, A))
    site.network.part("a", "b", "store")
    took_s = waits_s(site, A)
    one.wait_for_store(up=False)
    assert max(took_s) >= TIMEOUT_S, "no answer was held: was the store ever away?"
    assert max(took_s) <= usual_s + TIMEOUT_S + SLACK_S
    assert sum(took > usual_s + TIMEOUT_S * 0.9 for took in took_s) <= WAITS, f"{took_s}"
    assert signed_in(site, A) == [len(USERS)] * 2
    assert without_the_store(one) >= 2 * len(USERS)
    assert one.store_failures >= 1
    assert signed_in(site, B) == [len(USERS)] * 2
    two.wait_for_store(up=False)
    begun = begun_by_both(site, A)
    site.network.join("a", "b", "store")
    for node in (one, two):
        node.wait_for_store()
        assert node.balancer.log().count("the pin store is away") == 1, "one line at each change"
        assert node.balancer.log().count("the pin store answers") == 2
    assert ended_by_both(site, B, begun) == [len(USERS)] * 2, "what was begun meanwhile is shared afterwards"
    assert one.operations("store", "handed_in") >= 2 * len(USERS)
    assert ended_by_both(site, A, begun_by_both(site, B)) == [len(USERS)] * 2


def test_one_node_that_is_cut_off_goes_on_alone_while_the_other_shares(site: SmsNetwork) -> None:
    one, two = site.nodes["a"], site.nodes["b"]
    site.network.part("a", "store")
    assert signed_in(site, A) == [len(USERS)] * 2
    one.wait_for_store(up=False)
    assert signed_in(site, B) == [len(USERS)] * 2
    assert two.is_store_up
    assert without_the_store(two) == 0
    for ended in ended_by_both(site, A, begun_by_both(site, B)):
        assert 0 < ended < len(USERS), "halves at two nodes meet by chance only: or is nothing cut?"
    begun = begun_by_both(site, A)
    site.network.join("a", "store")
    one.wait_for_store()
    assert ended_by_both(site, B, begun) == [len(USERS)] * 2
    assert one.store_failures >= 1
    assert two.store_failures == 0
