from __future__ import annotations

from dataclasses import dataclass

import pytest
from unit.balancer.exchange.radius_world import CLIENT, ENTROPY, World, access_request, sign_in

from mfalb.balancer.config.balancing_models import Algorithm, HashBy, HashOfPart, HashOfRequest
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.exchange.radius_exchange import Drop, Forward, Reply, Resend
from mfalb.balancer.exchange.radius_hash_key import radius_key
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.wire import radius

NAS = RadiusPeer("vpn", CLIENT, requires_message_authenticator=True)


@dataclass
class Pooled(World):
    """Servers of a pool with more settings than the usual ones."""

    settings: tuple[tuple[str, object], ...] = ()

    def make_config(self, **given: object) -> PoolConfig:
        return PoolConfig.model_validate({**given, **dict(self.settings)})


BY_USER = (("algorithm", Algorithm.HASH), ("hash", HashOfRequest(key="user_name", load_factor=100)))


@pytest.mark.parametrize(
    ("key", "attributes", "expected"),
    [
        ("user_name", [(radius.USER_NAME, b"CONTOSO\\Alice")], b"contoso\\alice"),
        ("user_name", [(radius.CALLING_STATION_ID, b"x")], b""),
        ("calling_station_id", [(radius.CALLING_STATION_ID, b"00-1B-63-AA")], b"00-1b-63-aa"),
        ("calling_station_id", [(radius.USER_NAME, b"alice")], b""),
        ("client", [(radius.USER_NAME, b"alice")], b"vpn"),
    ],
)
def test_a_key_is_what_the_request_says_or_nothing(
    key: str, attributes: list[tuple[int, bytes]], expected: bytes
) -> None:
    by: HashBy = HashOfRequest.model_validate({"key": key})
    assert radius_key(by)(radius.read_untrusted(access_request(*attributes)), NAS) == expected


@pytest.mark.parametrize("by", [HashOfRequest(key="source"), HashOfPart(key="header", name="x")])
def test_what_only_http_has_is_no_key_here(by: HashBy) -> None:
    with pytest.raises(ValueError, match=by.key):
        radius_key(by)


def test_sign_ins_of_one_user_go_to_one_server_and_a_refused_one_to_the_next_in_line() -> None:
    world = Pooled(servers=4, settings=BY_USER, in_flight_limit=1000)
    homes = {n: world.begin(sign_in(b"user%d" % n, identifier=n)).backend.name for n in range(60)}
    assert set(homes.values()) == {"b1", "b2", "b3", "b4"}
    again = {n: world.begin(sign_in(b"USER%d" % n, identifier=100 + n)).backend.name for n in range(60)}
    assert again == homes
    second = set()
    for identifier in (200, 201, 202):
        exchange = world.begin(sign_in(b"user1", identifier=identifier))
        assert isinstance(world.exchanges.refused(exchange, 0.1, ENTROPY), Forward)
        second.add(exchange.backend.name)
    assert len(second) == 1
    assert second != {homes[1]}


def test_a_state_goes_to_the_server_that_made_it_wherever_the_user_s_hash_leads_by_then() -> None:
    world = Pooled(servers=3, settings=BY_USER)
    home = world.begin(sign_in(b"alice", identifier=1)).backend.name
    world.set_up(home, is_up=False)
    issuer = world.challenge(b"s", b"alice", identifier=2)
    world.set_up(home)
    assert issuer != home
    assert world.begin(sign_in(b"alice", identifier=3)).backend.name == home
    assert world.begin(sign_in(b"alice", b"s", identifier=4)).backend.name == issuer


def test_in_panic_a_retransmit_stays_with_the_server_that_was_asked_and_a_refusal_does_not() -> None:
    """The checks may be wrong, and the phone ringing already."""
    world = Pooled(settings=(("panic_threshold", 1.0),))
    for name in ("b1", "b2"):
        world.set_up(name, is_up=False)
    exchange = world.begin(sign_in())
    first = exchange.backend
    assert isinstance(world.request(sign_in(), now=5.0), Resend)
    assert exchange.backend is first
    exchange.transmissions = 1
    assert isinstance(world.exchanges.refused(exchange, 5.1, ENTROPY), Forward)
    assert exchange.backend is not first


def test_in_panic_a_state_is_still_refused_when_its_server_is_down() -> None:
    world = Pooled(settings=(("panic_threshold", 1.0),))
    issuer = world.challenge(b"s")
    exchange = world.begin(sign_in(state=b"s", identifier=8))
    world.set_up(issuer, is_up=False)
    decision = world.request(sign_in(state=b"s", identifier=8), now=5.0)
    assert isinstance(decision, Reply)
    assert decision.reason == "pinned_down"
    assert exchange.key not in world.exchanges.duplicates.in_flight


def test_a_pool_in_panic_answers_status_server_since_it_takes_sign_ins() -> None:
    status = radius.signed_request(radius.STATUS_SERVER, 1, bytes(16), b"", CLIENT)
    calm, panicking = Pooled(), Pooled(settings=(("panic_threshold", 0.5),))
    for world in (calm, panicking):
        world.set_up("b1", is_up=False)
        world.set_up("b2", is_up=False)
    assert calm.request(status) == Drop("status_no_backend")
    decision = panicking.request(status)
    assert isinstance(decision, Reply)
    assert decision.reason == "status"
