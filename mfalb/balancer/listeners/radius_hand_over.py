"""Exchanges of a RADIUS listener on their way from one worker to another: read out of its tables, and put into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic

from mfalb.balancer.exchange.handed_exchanges import HandedAnswer, HandedEndpoint, HandedFlight, HandedService
from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.exchange.radius_peer import RadiusSource
from mfalb.balancer.listeners.radius_dispatch import RadiusDispatch
from mfalb.errors import MalformedMessage

SourceOf = Callable[[bytes], RadiusSource | None]  # a client's socket by its peer; None when it is nobody's now


def hand_over(owner: str, dispatch: RadiusDispatch, addresses: Mapping[bytes, str]) -> HandedService:
    """What another worker has to know. `addresses` of the listener's sockets, by what keys of their clients begin with.

    What a socket carries is the other one's from now on; the rest (over TLS) stays here until it is answered.
    """
    endpoints = {tag: HandedEndpoint(address) for tag, address in addresses.items()}
    tag_bytes = len(next(iter(addresses), b""))
    exchanges = dispatch.exchanges
    for exchange in exchanges.under_way():
        number = dispatch.upstream.number_of(exchange)
        endpoints[exchange.key[:tag_bytes]].flights.append(_handed(exchange, number))
        if number:
            exchanges.give_away(exchange)
    for key, (authenticator, datagram, expires_at) in exchanges.duplicates.answered.items():
        endpoints[key[:tag_bytes]].answers.append(HandedAnswer(key[tag_bytes:], authenticator, datagram, expires_at))
    return HandedService(owner, list(endpoints.values()))


def _handed(exchange: RadiusExchange, number: int) -> HandedFlight:
    return HandedFlight(
        datagram=exchange.request.data,
        peer=exchange.source.peer,
        backend=exchange.backend.name,
        entropy=exchange.entropy,
        socket=number,
        identifier=exchange.identifier,
        transmissions=exchange.transmissions,
        begun_at=exchange.begun_at,
        first_sent_at=exchange.first_sent_at,
        sent_at=exchange.sent_at,
        deadline=exchange.deadline,
        is_superseded=exchange.is_superseded,
        is_elsewhere=not number,
    )


def take_up(dispatch: RadiusDispatch, arrived: Sequence[tuple[HandedEndpoint, bytes, SourceOf]]) -> None:
    """Go on with what was handed over: for each address what came there, what keys begin with, and who its clients are.

    What cannot be gone on with (its client or backend is no more) is as if it had never been, as after a crash.
    """
    now = monotonic()
    answers = [(one, tag) for endpoint, tag, _ in arrived for one in endpoint.answers]
    duplicates = dispatch.exchanges.duplicates
    for answer, tag in sorted(answers, key=lambda one: one[0].expires_at):
        duplicates.remember(tag + answer.asked, (answer.authenticator, answer.datagram, answer.expires_at))
    flights = [(one, source_of) for endpoint, _, source_of in arrived for one in endpoint.flights]
    for flight, source_of in sorted(flights, key=lambda one: one[0].deadline):
        source = source_of(flight.peer)
        if source is not None:
            _go_on(dispatch, flight, source, now)


def _go_on(dispatch: RadiusDispatch, flight: HandedFlight, source: RadiusSource, now: float) -> None:
    exchange = dispatch.exchanges.take_up(flight, source, now)
    if exchange is None or flight.is_elsewhere:
        return
    try:
        is_held = dispatch.upstream.take_up(exchange, flight.socket, flight.identifier)
    except MalformedMessage:
        is_held = False
    if not is_held:
        dispatch.upstream.release(exchange, now)
        dispatch.exchanges.give_away(exchange)
