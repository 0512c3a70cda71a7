"""One connection, several services: which dispatch gets a packet, and what they have in common."""

from __future__ import annotations

import logging

import pytest
from programs.radius_mutations import forged_by_a_bit
from unit.balancer.exchange.radius_world import CLIENT, SOURCE, World, access_request, server_answer, sign_in
from unit.balancer.exchange.test_radius_accounting import AccountingWorld, record
from unit.balancer.listeners.test_radius_dispatch import Path, Upstream

from mfalb.balancer.config.radius_models import ServiceKind
from mfalb.balancer.exchange.radius_peer import RadiusSource
from mfalb.balancer.listeners.radius_dispatch import RadiusDispatch, RadiusParts
from mfalb.balancer.listeners.radsec_dispatches import RadsecDispatches
from mfalb.telemetry.metrics import ListenerCounters
from mfalb.wire import radius


class FlushedUpstream(Upstream):
    """Counts what the listener does to it."""

    flushes = 0
    is_closed = False

    def flush(self) -> None:
        self.flushes += 1

    def close(self) -> None:
        self.is_closed = True


class Desk:
    """A RadSec listener's dispatches; the first of `worlds` is its own service."""

    def __init__(self, **worlds: World) -> None:
        self.path = Path()
        self.worlds = worlds
        self.counters = ListenerCounters("edge", "radsec")
        self.upstreams = {service: FlushedUpstream(world) for service, world in worlds.items()}
        self.by_service = {ServiceKind(service): self._dispatch(service, world) for service, world in worlds.items()}
        self.dispatches = RadsecDispatches(self.by_service)
        self.source = RadiusSource(next(iter(worlds.values())).client, SOURCE, self.path, b"")

    def _dispatch(self, service: str, world: World) -> RadiusDispatch:
        parts = RadiusParts(world.exchanges, world.pins, self.counters, None, lambda _: None)
        return RadiusDispatch(parts, lambda _: self.upstreams[service])

    def receive(self, packet: bytes) -> None:
        self.dispatches.received(packet, self.source, 0.0)

    def sent(self) -> dict[str, int]:
        """How many requests each service sent to its servers."""
        return {service: len(upstream.sent) for service, upstream in self.upstreams.items()}

    def answers(self) -> list[int]:
        return [datagram[0] for datagram, _ in self.path.sent]


def two_services() -> Desk:
    return Desk(authentication=World(), accounting=AccountingWorld())


def asked(code: int) -> bytes:
    return radius.content_signed_request(code, 7, radius.attribute(44, b"0001"), CLIENT)


def test_sign_ins_and_records_of_one_connection_go_each_to_its_own_pool() -> None:
    desk = two_services()
    desk.receive(sign_in())
    assert desk.sent() == {"authentication": 1, "accounting": 0}
    desk.receive(record())  # the same identifier, which is the other code's own
    assert desk.sent() == {"authentication": 1, "accounting": 1}
    assert desk.counters.requests == 2
    assert desk.dispatches.busy_sources() == {desk.source}


def test_a_connection_is_busy_as_long_as_any_service_owes_it_an_answer() -> None:
    desk = two_services()
    desk.receive(record())
    assert desk.dispatches.busy_sources() == {desk.source}
    upstream = desk.upstreams["accounting"]
    exchange, _ = upstream.sent[0]
    dispatch = desk.by_service[ServiceKind.ACCOUNTING]
    dispatch.answered(exchange, server_answer(exchange, radius.ACCOUNTING_RESPONSE), 1.0)
    assert desk.answers() == [radius.ACCOUNTING_RESPONSE]
    assert desk.dispatches.busy_sources() == set()
    assert desk.counters.answers == {"accounting": 1}


@pytest.mark.parametrize(
    ("services", "code"), [(("authentication", "accounting"), radius.ACCESS_ACCEPT), (("accounting",), 5)]
)
def test_a_status_server_is_answered_by_the_listener_s_own_service(services: tuple[str, ...], code: int) -> None:
    worlds = {"authentication": World, "accounting": AccountingWorld}
    desk = Desk(**{service: worlds[service]() for service in services})
    desk.receive(radius.signed_request(radius.STATUS_SERVER, 7, bytes(range(16)), b"", CLIENT))
    assert desk.answers() == [code]


def test_what_no_service_takes_is_refused_counted_and_told_once_with_the_client_s_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = two_services()
    with caplog.at_level(logging.WARNING):
        for code in (radius.COA_REQUEST, radius.DISCONNECT_REQUEST):
            desk.receive(asked(code))
    assert desk.answers() == [radius.COA_NAK, radius.DISCONNECT_NAK]
    assert desk.sent() == {"authentication": 0, "accounting": 0}
    assert desk.counters.answers == {"unsupported": 2}
    assert desk.source.client.drops == {"unsupported": 2}
    assert desk.path.discarded_reasons == []
    told = [(record.getMessage(), vars(record)["client"]) for record in caplog.records]
    assert told == [("a client asks for what its listener has no service for", "vpn")]


def test_a_record_is_refused_where_there_is_no_accounting_and_kept_where_there_is() -> None:
    alone = Desk(authentication=World())
    alone.receive(record())
    assert (alone.answers(), alone.sent()) == ([radius.ACCOUNTING_RESPONSE], {"authentication": 0})
    both = two_services()
    both.receive(record())
    assert both.answers() == []


def test_a_sign_in_where_there_is_only_accounting_is_dropped_and_the_connection_goes_on() -> None:
    desk = Desk(accounting=AccountingWorld())
    desk.receive(access_request())
    assert (desk.answers(), desk.sent()) == ([], {"accounting": 0})
    assert desk.counters.drops == {"unexpected_code": 1}
    assert desk.path.discarded_reasons == ["unexpected_code"]


def test_a_forged_request_for_no_service_is_dropped_with_a_reason_that_ends_its_connection() -> None:
    desk = two_services()
    desk.receive(forged_by_a_bit(asked(radius.COA_REQUEST)))
    assert desk.answers() == []
    assert desk.path.discarded_reasons == ["bad_request_authenticator"]


def test_all_services_are_flushed_and_closed() -> None:
    desk = two_services()
    desk.dispatches.flush()
    desk.dispatches.close()
    assert [(one.flushes, one.is_closed) for one in desk.upstreams.values()] == [(1, True)] * 2
