from __future__ import annotations

from ipaddress import ip_network

import pytest
from unit.balancer.exchange.http_world import backend_of, make_exchanges, moment, request

from mfalb.balancer.config.balancing_models import Algorithm, HashBy, HashOfPart, HashOfRequest
from mfalb.balancer.config.models import Backend
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.config.values import Address
from mfalb.balancer.exchange.forwarding import ClientFacts
from mfalb.balancer.exchange.http import Forward
from mfalb.balancer.exchange.http_hash_key import http_key
from mfalb.balancer.pools.pool import Pool
from mfalb.wire.http_heads import RequestHead

CLIENT = ClientFacts("192.0.2.7", is_tls=True)
PROXIES = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("by", "head", "key"),
    [
        (HashOfRequest(key="path"), request(target="/a/B%20c?x=1"), b"/a/B%20c"),
        (HashOfPart(key="header", name="X-Tenant"), request("x-tenant:  blue "), b"blue"),
        (HashOfPart(key="header", name="x-tenant"), request("X-Tenants: no", "X-TENANT: one", "X-Tenant: two"), b"one"),
        (HashOfPart(key="header", name="Host"), request("Host: MFA.contoso.com"), b"MFA.contoso.com"),
        (HashOfPart(key="header", name="X-Tenant"), request("X-Other: x-tenant: no"), b""),
        (HashOfPart(key="cookie", name="sid"), request("Cookie: a=1; sid=xyz; sid2=no"), b"xyz"),
        (HashOfPart(key="cookie", name="sid"), request("Cookie: SID=xyz"), b""),
        (HashOfPart(key="cookie", name="sid"), request(), b""),
        (HashOfPart(key="query", name="user"), request(target="/?auser=no&user=al%69ce&user=bob"), b"al%69ce"),
        (HashOfPart(key="query", name="user"), request(target="/user=no?users=no&user"), b""),
        (HashOfPart(key="query", name="user"), request(target="/?user="), b""),
        (HashOfRequest(key="source"), request("X-Forwarded-For: 10.9.9.9"), b"192.0.2.7"),
    ],
)
def test_a_key_is_what_the_request_says_or_nothing(by: HashBy, head: RequestHead, key: bytes) -> None:
    assert http_key(by, ())(head, CLIENT) == key


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "source"),
    [
        ("198.51.100.1", "10.0.0.1", "198.51.100.1"),
        ("192.0.2.7", "10.0.0.1", "10.0.0.1"),
        ("192.0.2.7", "6.6.6.6, 10.0.0.1", "10.0.0.1"),
        ("192.0.2.7", "6.6.6.6, 10.0.0.1,192.0.2.8 , 2001:db8::1", "10.0.0.1"),
        ("192.0.2.7", "192.0.2.8, 192.0.2.9", "192.0.2.8"),
        ("192.0.2.7", "10.0.0.1, unknown", "192.0.2.7"),
        ("192.0.2.7", "10.0.0.1, 192.0.2.9, ", "192.0.2.7"),
        ("192.0.2.7", "2001:DB9:0::1", "2001:db9::1"),
        ("192.0.2.7", None, "192.0.2.7"),
    ],
)
def test_behind_trusted_proxies_the_source_is_the_last_address_that_is_none_of_theirs(
    peer: str, forwarded_for: str | None, source: str
) -> None:
    head = request() if forwarded_for is None else request(f"X-Forwarded-For: {forwarded_for}")
    key_of = http_key(HashOfRequest(key="source"), PROXIES)
    assert key_of(head, ClientFacts(peer, is_tls=False)) == source.encode()


@pytest.mark.parametrize("key", ["user_name", "calling_station_id", "client"])
def test_what_only_radius_has_is_no_key_here(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        http_key(HashOfRequest.model_validate({"key": key}), ())


def test_requests_with_one_key_go_to_one_backend_and_a_refused_one_to_the_next_in_line() -> None:
    config = PoolConfig(
        backends=tuple(Backend(name=f"b{n}", address=Address("192.0.2.1", 80 + n)) for n in range(5)),
        algorithm=Algorithm.HASH,
        hash=HashOfPart(key="query", name="user"),
    )
    exchanges = make_exchanges({"web": Pool("web", config)})

    def goes_to(user: str) -> str:
        return backend_of(exchanges.begin(request(target=f"/?user={user}"), CLIENT, moment()))

    homes = {f"u{number}": goes_to(f"u{number}") for number in range(40)}
    assert set(homes.values()) == {f"b{n}" for n in range(5)}
    assert {user: goes_to(user) for user in reversed(homes)} == homes
    second = set()
    for _ in range(3):
        decision = exchanges.begin(request(target="/?user=u1"), CLIENT, moment())
        assert isinstance(decision, Forward)
        second.add(backend_of(exchanges.refused(decision.exchange, decision.backend)))
    assert len(second) == 1
    assert second != {homes["u1"]}
