"""A dispatch whose pins other nodes share: what it holds, and what it does when it may go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from unit.balancer.exchange.radius_world import CLIENT, SOURCE, World, guards, sign_in
from unit.balancer.exchange.test_radius_shared import LATER, STATE, SharedWorld
from unit.balancer.listeners.test_radius_dispatch import Desk

from mfalb.balancer.affinity.store import Pin
from mfalb.balancer.listeners.radius_dispatch import RadiusDispatch, RadiusParts
from mfalb.balancer.upstreams.pin_sharing import PinSharing
from mfalb.wire import radius


class Sharing:
    """Holds what it is given until the test lets it go on; or nothing, like a store that is away."""

    def __init__(self) -> None:
        self.is_away = False
        self.stored: list[Sequence[Pin]] = []
        self.asked: list[Sequence[bytes]] = []
        self.ended: list[Pin] = []
        self._held: list[Callable[[float], None]] = []

    def store(self, pins: Sequence[Pin], then: Callable[[float], None]) -> bool:
        self.stored.append(pins)
        return self._hold(then)

    def look_up(self, keys: Sequence[bytes], then: Callable[[float], None]) -> bool:
        self.asked.append(keys)
        return self._hold(then)

    def end(self, pins: Sequence[Pin]) -> None:
        self.ended += pins

    def _hold(self, then: Callable[[float], None]) -> bool:
        if not self.is_away:
            self._held.append(then)
        return not self.is_away

    def go_on(self, now: float) -> None:
        held, self._held = self._held, []
        for then in held:
            then(now)


class SharedDesk(Desk):
    """A desk whose pins are shared."""

    def __init__(self, world: World | None = None) -> None:
        super().__init__(world or SharedWorld())
        self.sharing = Sharing()
        parts = RadiusParts(self.world.exchanges, self.world.pins, self.counters, self.access_log, self.refused.append)
        parts.sharing = cast(PinSharing, self.sharing)
        self.dispatch = RadiusDispatch(parts, lambda _: self.upstream)

    def challenged(self) -> None:
        self.receive(sign_in())
        self.answer(radius.ACCESS_CHALLENGE, (radius.STATE, STATE), now=0.2)


def codes(desk: Desk) -> list[int]:
    return [datagram[0] for datagram, _ in desk.path.sent]


def test_a_challenge_is_released_when_its_pin_is_stored_and_its_server_is_let_go_of_at_once() -> None:
    desk = SharedDesk()
    desk.challenged()
    assert codes(desk) == []
    assert desk.upstream.released[:1] == [desk.upstream.sent[0][0]]
    ((pin,),) = desk.sharing.stored
    assert desk.world.pins.find(pin.key, 0.2) == pin.backend, "this node's own table has it first"
    desk.sharing.go_on(0.25)
    assert codes(desk) == [radius.ACCESS_CHALLENGE]
    assert (dict(desk.counters.answers), desk.counters.seconds) == ({"challenge": 1}, 0.25)


def test_retransmits_get_nothing_while_it_is_held_and_the_same_answer_afterwards() -> None:
    desk = SharedDesk()
    desk.challenged()
    for now in (0.21, 3.0):
        desk.receive(sign_in(), now=now)
    assert (codes(desk), len(desk.upstream.sent)) == ([], 1), "neither answered nor sent on"
    assert desk.drops() == {"duplicate_in_flight": 2}
    desk.sharing.go_on(3.1)
    desk.receive(sign_in(), now=3.2)
    assert desk.path.sent[0] == desk.path.sent[1]


def test_what_pins_nothing_is_not_held() -> None:
    desk = SharedDesk()
    desk.receive(sign_in())
    desk.answer(radius.ACCESS_REJECT)
    assert codes(desk) == [radius.ACCESS_REJECT]
    assert not desk.sharing.stored


def test_with_the_store_away_neither_answers_nor_requests_wait() -> None:
    desk = SharedDesk()
    desk.sharing.is_away = True
    desk.challenged()
    assert codes(desk) == [radius.ACCESS_CHALLENGE]
    desk.receive(sign_in(), now=0.3)
    assert codes(desk) == [radius.ACCESS_CHALLENGE] * 2
    desk.receive(sign_in(state=b"unknown", identifier=8), now=0.4)
    assert len(desk.upstream.sent) == 2


def test_a_state_of_another_node_waits_for_the_store_and_then_goes_to_its_server() -> None:
    desk = SharedDesk()
    desk.receive(sign_in(state=STATE))
    desk.receive(sign_in(state=STATE), now=0.01)
    assert not desk.upstream.sent
    ((key,),) = desk.sharing.asked
    desk.world.pins.put(Pin(key, "b2", 300.0), 0.0)
    desk.sharing.go_on(0.02)
    ((exchange, _),) = desk.upstream.sent
    assert (exchange.backend.name, exchange.is_bound) == ("b2", True)
    assert desk.drops() == {"duplicate_in_flight": 1}


def test_a_held_answer_that_nobody_waits_for_any_more_is_counted() -> None:
    desk = SharedDesk()
    desk.challenged()
    desk.receive(sign_in(authenticator=LATER), now=0.3)
    desk.sharing.go_on(0.4)
    assert codes(desk) == []
    assert desk.drops() == {"superseded": 1, "late_answer": 1}


def test_what_is_refused_after_the_store_was_asked_is_refused_as_ever() -> None:
    desk = SharedDesk(SharedWorld(guards=guards(rates={"vpn": 0.0001})))
    for number in range(3):
        desk.receive(sign_in(state=b"unknown", identifier=number))
    desk.sharing.go_on(0.1)
    assert desk.drops().get("rate_limit", 0) + len(desk.upstream.sent) == 3


def test_the_client_s_secret_and_socket_are_what_the_answer_goes_out_with() -> None:
    desk = SharedDesk()
    desk.challenged()
    desk.sharing.go_on(0.3)
    ((datagram, peer),) = desk.path.sent
    request: Any = desk.upstream.sent[0][0].request
    assert peer == b"peer of " + SOURCE
    assert radius.has_valid_response_authenticator(radius.read_untrusted(datagram), CLIENT, request.authenticator)


def test_an_accept_is_released_at_once_and_the_store_is_told_that_the_sign_in_has_ended() -> None:
    desk = SharedDesk()
    desk.challenged()
    desk.sharing.go_on(0.25)
    desk.receive(sign_in(state=STATE, identifier=8), now=1.0)
    desk.answer(radius.ACCESS_ACCEPT, now=1.2)
    assert codes(desk) == [radius.ACCESS_CHALLENGE, radius.ACCESS_ACCEPT]
    ((pin,),) = desk.sharing.stored
    assert desk.sharing.ended == [pin]
    desk.receive(sign_in(state=STATE, identifier=9), now=2.0)
    desk.answer(radius.ACCESS_REJECT, now=2.2)
    assert desk.sharing.ended == [pin], "it is told once"


def test_of_a_conversation_that_keeps_its_state_the_store_is_not_told_of_an_end() -> None:
    desk = SharedDesk()
    desk.challenged()
    desk.sharing.go_on(0.25)
    desk.receive(sign_in(state=STATE, identifier=8), now=1.0)
    desk.answer(radius.ACCESS_CHALLENGE, (radius.STATE, STATE), now=1.2)
    assert desk.sharing.ended == []
    assert len(desk.sharing.stored) == 2
    desk.sharing.go_on(1.25)
    desk.receive(sign_in(state=STATE, identifier=9), now=2.0)
    desk.answer(radius.ACCESS_CHALLENGE, (radius.STATE, b"another"), now=2.2)
    assert [pin.key for pin in desk.sharing.ended] == [desk.sharing.stored[0][0].key]
