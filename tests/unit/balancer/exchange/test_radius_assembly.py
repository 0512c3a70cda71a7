"""What the exchanges of a listener's services are made of, and what is each service's own."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from unit.balancer.affinity.node_pins import pin_hub
from unit.balancer.exchange.radius_world import access_request
from unit.balancer.exchange.test_radius_accounting import record

from mfalb.balancer.config.health_models import RadiusCheck
from mfalb.balancer.config.models import Affinity, Backend, NoAffinity, RadiusStateAffinity
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.config.radius_models import (
    ProxyStateUse,
    RadiusClient,
    RadiusListener,
    RadiusSessionAffinity,
    RadiusUserLimit,
    ServiceKind,
)
from mfalb.balancer.config.radsec_models import ClientCertificate, RadsecClient, RadsecListener, RadsecTls
from mfalb.balancer.config.tls_models import Certificate
from mfalb.balancer.config.values import Address, Secret
from mfalb.balancer.exchange.radius import RadiusExchanges
from mfalb.balancer.exchange.radius_accounting import Accounting, FollowedAuthentication
from mfalb.balancer.exchange.radius_assembly import RadiusAssembly
from mfalb.balancer.exchange.radius_authentication import Authentication
from mfalb.balancer.exchange.radius_exchange import Drop, Forward, Reply, RequestDecision
from mfalb.balancer.exchange.radius_peer import RadiusPeer, RadiusSource, Secrets
from mfalb.balancer.exchange.radius_shared import SharedRadiusExchanges
from mfalb.balancer.pools.pool import Pool
from mfalb.wire import radius

FOLLOWING = RadiusSessionAffinity(type="radius_session", follows="mfa")
STATES = RadiusStateAffinity(type="radius_state")
AUTHENTICATION, ACCOUNTING = ServiceKind.AUTHENTICATION, ServiceKind.ACCOUNTING
SECRETS = Secrets()
SOURCE = RadiusSource(RadiusPeer("nas", SECRETS.of(b"towards-the-client"), True), b"key", None, b"")


def pool(name: str, affinity: Affinity) -> Pool:
    """One server that is up and takes work, under the same name in each pool; it must sign, the other need not."""
    made = Pool(
        name,
        PoolConfig(
            backends=(
                Backend(
                    name="b1",
                    address=Address("192.0.2.1", 1812),
                    secret=Secret(name.encode()),
                    require_message_authenticator=True,
                    limit_proxy_state=True,
                ),
                Backend(name="b2", address=Address("192.0.2.2", 1812), secret=Secret(name.encode()), weight=0),
            ),
            affinity=affinity,
            health_check=RadiusCheck(type="radius", rise=1, fall=1),
        ),
    )
    made.observe("b1", is_good=True, reason="test", now=0.0)
    return made


def mark(name: str) -> bytes:
    """Other bytes for each name."""
    return sha256(name.encode()).digest()[:8]


def exchanges(following: Affinity = FOLLOWING, **more: Any) -> dict[ServiceKind, RadiusExchanges]:
    """Both services of a listener with a limit of each kind that is reached by one request."""
    files = Certificate(cert=Path("a.crt"), key=Path("a.key"))
    listener = RadsecListener(
        name="edge",
        protocol="radsec",
        bind=(Address("127.0.0.1", 2083),),
        tls=RadsecTls(certificates=(files,), client_ca=Path("ca.pem")),
        clients=(RadsecClient(name="nas", certificate=ClientCertificate(common_name="nas"), rate_limit=2),),
        pool="mfa",
        accounting_pool="records",
        user_limit=RadiusUserLimit(sign_ins=1),
        **more,
    )
    pools = {"mfa": pool("mfa", STATES), "records": pool("records", following)}
    assembly, hidden = RadiusAssembly(pools, pin_hub(10), SECRETS, mark), Counter[str]()
    made = {kind: assembly.exchanges(listener, kind, hidden) for kind in listener.pools}
    assert all(one.service.unhandled_hidden is hidden for one in made.values())
    return made


def listener_over_udp(*networks: str, **more: Any) -> RadiusListener:
    clients = tuple(
        RadiusClient(name=f"nas{number}", network=ip_network(network), secret=Secret(b"towards-the-client"))
        for number, network in enumerate(networks)
    )
    return RadiusListener(
        name="edge", protocol="radius", bind=(Address("127.0.0.1", 1812),), clients=clients, pool="mfa", **more
    )


def added_by(listener: RadiusListener | RadsecListener) -> dict[str, bytes]:
    """The Proxy-State that each backend of its pool gets."""
    assembly = RadiusAssembly({"mfa": pool("mfa", STATES)}, pin_hub(10), SECRETS, mark)
    made = assembly.exchanges(listener, AUTHENTICATION, Counter())
    return {name: peer.proxy_state for name, peer in made.service.upstreams.items()}


def begin(one: RadiusExchanges, datagram: bytes) -> RequestDecision:
    return one.request(datagram, SOURCE, 100.0, bytes(16))


def test_each_service_has_its_own_pool_with_its_own_secrets() -> None:
    made = exchanges()
    assert {kind: one.pool.name for kind, one in made.items()} == {AUTHENTICATION: "mfa", ACCOUNTING: "records"}
    secrets = {kind: one.service.upstreams["b1"].secret for kind, one in made.items()}
    assert secrets == {AUTHENTICATION: SECRETS.of(b"mfa"), ACCOUNTING: SECRETS.of(b"records")}
    assert isinstance(made[ACCOUNTING].service, Accounting)


def test_sign_ins_are_remembered_only_where_accounting_follows_them() -> None:
    assert type(exchanges()[AUTHENTICATION].service) is FollowedAuthentication
    assert type(exchanges(NoAffinity())[AUTHENTICATION].service) is Authentication


def test_records_are_not_counted_as_sign_ins_of_their_user() -> None:
    made = exchanges()
    sign_ins = [begin(made[AUTHENTICATION], access_request(identifier=number)) for number in (1, 2)]
    assert [type(decision) for decision in sign_ins] == [Forward, Reply]
    records = [begin(made[ACCOUNTING], record(identifier=number)) for number in (1, 2)]
    assert [type(decision) for decision in records] == [Forward, Forward]


def test_the_rate_limit_of_a_client_is_each_service_s_own() -> None:
    made = exchanges()
    records = [begin(made[ACCOUNTING], record(identifier=number)) for number in (1, 2, 3)]
    assert records[2] == Drop("rate_limit")
    assert isinstance(begin(made[AUTHENTICATION], access_request()), Forward)


def test_the_tables_of_each_service_are_as_large_and_last_as_long_as_the_listener_says() -> None:
    for one in exchanges(in_flight_limit=3, answer_cache_s=7.0, answer_cache_limit=5).values():
        table = one.duplicates
        assert (table.in_flight_limit, table.answered_limit, table.answer_life_s) == (3, 5, 7.0)


def test_loops_end_where_the_listener_says() -> None:
    one = exchanges(proxy_state_limit=1)[AUTHENTICATION]
    states = [(radius.PROXY_STATE, b"a"), (radius.PROXY_STATE, b"b")]
    assert begin(one, access_request(*states)) == Drop("loop")


def test_what_backends_must_sign_is_asked_of_authentication_only() -> None:
    asked = {
        (kind, name): (peer.requires_message_authenticator, peer.limits_proxy_state)
        for kind, one in exchanges().items()
        for name, peer in one.service.upstreams.items()
    }
    assert asked == {
        (AUTHENTICATION, "b1"): (True, True),
        (AUTHENTICATION, "b2"): (False, False),
        (ACCOUNTING, "b1"): (False, False),
        (ACCOUNTING, "b2"): (False, False),
    }


def test_f2_a_backend_whose_address_is_a_client_s_gets_a_proxy_state_and_no_other_does() -> None:
    ours = radius.attribute(radius.PROXY_STATE, mark(f"edge/{AUTHENTICATION}"))
    assert added_by(listener_over_udp("10.0.0.0/8", "192.0.2.1/32")) == {"b1": ours, "b2": b""}
    assert added_by(listener_over_udp("2001:db8::/32", "192.0.2.0/24")) == {"b1": ours, "b2": ours}
    assert added_by(listener_over_udp("10.0.0.0/8")) == {"b1": b"", "b2": b""}


@pytest.mark.parametrize(("use", "is_added"), [(ProxyStateUse.ALWAYS, True), (ProxyStateUse.NEVER, False)])
def test_f2_a_listener_may_say_whether_it_adds_a_proxy_state(use: ProxyStateUse, *, is_added: bool) -> None:
    for network in ("10.0.0.0/8", "192.0.2.0/24"):
        added = added_by(listener_over_udp(network, add_proxy_state=use))
        assert [bool(state) for state in added.values()] == [is_added] * 2


def test_f2_clients_that_may_come_from_anywhere_may_be_backends_and_each_service_has_a_state_of_its_own() -> None:
    made = exchanges()
    states = {one.service.upstreams["b1"].proxy_state for one in made.values()}
    assert states == {radius.attribute(radius.PROXY_STATE, mark(f"edge/{kind}")) for kind in made}
    for kind, one in made.items():
        assert not one.guards.is_loop(radius.read_untrusted(access_request((radius.PROXY_STATE, b"another's"))))
        ours = (radius.PROXY_STATE, mark(f"edge/{kind}"))
        assert one.guards.is_loop(radius.read_untrusted(access_request((radius.PROXY_STATE, b"another's"), ours)))


def test_a_node_that_shares_its_pins_has_exchanges_that_wait_for_the_store() -> None:
    assembly = RadiusAssembly({"mfa": pool("mfa", STATES)}, pin_hub(10), SECRETS, mark)
    listener = listener_over_udp("10.0.0.0/8")
    assert type(assembly.exchanges(listener, AUTHENTICATION, Counter())) is RadiusExchanges
    assembly.is_shared = True
    assert type(assembly.exchanges(listener, AUTHENTICATION, Counter())) is SharedRadiusExchanges
