"""The relay's rules, with transports that only remember: who is written to, paused, ended and reset when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
from unit.no_garbage import leaves_no_garbage

from mfalb.net.relay import Relay, RelayEnd


class Sock:
    def setsockopt(self, *_: object) -> None:
        pass


class Transport:
    """Remembers what it was told. Its protocol hears of its end when the test says so."""

    def __init__(self) -> None:
        self.told: list[str | bytes] = []
        self.protocol: asyncio.BaseProtocol | None = None
        self._is_closing = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        assert not self._is_closing, "written to after its end"
        self.told.append(data)

    def write_eof(self) -> None:
        assert "eof" not in self.told, "ended twice"
        self.told.append("eof")

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")

    def close(self) -> None:
        self._is_closing = True
        self.told.append("close")

    def abort(self) -> None:
        self._is_closing = True
        self.told.append("abort")

    def is_closing(self) -> bool:
        return self._is_closing

    def get_extra_info(self, name: str) -> Sock:
        assert name == "socket"
        return Sock()


class World:
    """A relay between two such transports, not joined yet."""

    def __init__(self, pending: bytes = b"") -> None:
        self.events: list[str] = []
        self.client, self.backend = Transport(), Transport()
        self.relay = Relay(self, cast(asyncio.Transport, self.client), pending)

    def join(self) -> World:
        self.relay.backend_end().connection_made(cast(asyncio.Transport, self.backend))
        return self

    def relay_joined(self, _relay: Relay) -> None:
        self.events.append("joined")

    def relay_ended(self, relay: Relay) -> None:
        self.events.append(f"ended {relay.reason}")

    def clear(self) -> None:
        self.client.told.clear()
        self.backend.told.clear()


def test_what_was_read_before_goes_first_and_then_the_client_is_read_on() -> None:
    world = World(b"hello")
    assert not world.relay.is_joined
    world.join()
    assert world.relay.is_joined
    assert world.events == ["joined"]
    assert world.client.protocol is world.relay.client
    assert world.client.told == ["resume"]
    assert world.backend.told == [b"hello"]
    assert world.relay.client.received_bytes == 5


def test_bytes_pass_both_ways_and_are_counted() -> None:
    world = World().join()
    world.clear()
    world.relay.client.data_received(b"ask")
    world.relay.backend.data_received(b"answer")
    assert (world.backend.told, world.client.told) == ([b"ask"], [b"answer"])
    assert (world.relay.client.received_bytes, world.relay.backend.received_bytes) == (3, 6)


def test_what_the_client_says_before_there_is_a_backend_is_kept_and_no_more_is_read() -> None:
    world = World(b"one ")
    world.relay.hold(b"two")
    assert world.client.told == ["pause"]
    world.join()
    assert world.client.told == ["pause", "resume"]
    assert world.backend.told == [b"one two"]


def test_a_client_that_said_all_before_there_was_a_backend_still_gets_its_answer() -> None:
    world = World()
    world.relay.hold(b"all")
    world.relay.hold_end()
    world.join()
    assert world.backend.told == [b"all", "eof"]
    world.clear()
    world.relay.backend.data_received(b"answer")
    assert world.client.told == [b"answer"]


Side = Callable[[Relay], RelayEnd]
SIDES: list[Side] = [lambda relay: relay.client, lambda relay: relay.backend]


def transports(world: World, side: Side) -> tuple[Transport, Transport]:
    """That of this side, and the other one."""
    pair = world.client, world.backend
    return pair if side(world.relay) is world.relay.client else (pair[1], pair[0])


@pytest.mark.parametrize("side", SIDES)
def test_a_side_that_ends_ends_the_other_way_only(side: Side) -> None:
    world = World().join()
    own, other = transports(world, side)
    world.clear()
    assert side(world.relay).eof_received() is True, "the event loop would close the connection"
    side(world.relay).other.data_received(b"late")
    assert other.told == ["eof"]
    assert own.told == [b"late"]
    assert side(world.relay).other.eof_received() is True
    assert own.told == [b"late", "close"]
    assert other.told == ["eof", "close"]
    for end in (world.relay.client, world.relay.backend):
        assert world.events == ["joined"]
        end.connection_lost(None)
    assert world.events == ["joined", "ended -"]


@pytest.mark.parametrize(("side", "reason"), [(SIDES[0], "client_reset"), (SIDES[1], "backend_reset")])
def test_a_reset_is_passed_on_as_one(side: Side, reason: str) -> None:
    world = World().join()
    _, other = transports(world, side)
    world.clear()
    side(world.relay).connection_lost(ConnectionResetError())
    assert other.told == ["abort"]
    side(world.relay).other.data_received(b"nobody is there for it")
    side(world.relay).other.connection_lost(None)
    assert world.events == ["joined", f"ended {reason}"]


@pytest.mark.parametrize("side", SIDES)
def test_what_a_side_said_before_it_ended_and_broke_still_arrives(side: Side) -> None:
    world = World().join()
    _, other = transports(world, side)
    side(world.relay).eof_received()
    world.clear()
    side(world.relay).connection_lost(BrokenPipeError())
    assert other.told == ["close"]


@pytest.mark.parametrize("side", SIDES)
def test_who_is_full_stops_the_other_sides_reading(side: Side) -> None:
    world = World().join()
    _, other = transports(world, side)
    world.clear()
    side(world.relay).pause_writing()
    side(world.relay).resume_writing()
    assert other.told == ["pause", "resume"]


@pytest.mark.parametrize("side", SIDES)
def test_a_side_that_has_ended_is_not_read_again(side: Side) -> None:
    world = World().join()
    own, _ = transports(world, side)
    side(world.relay).eof_received()
    world.clear()
    side(world.relay).other.pause_writing()
    side(world.relay).other.resume_writing()
    assert own.told == []


def test_an_end_before_anything_flows_is_a_silent_one_by_its_deadline_only() -> None:
    world = World().join()
    world.clear()
    world.relay.check_idle(100.0, 10.0)
    world.relay.client.data_received(b"x")
    world.relay.check_idle(109.0, 10.0)
    world.relay.check_idle(118.0, 10.0)
    assert world.client.told == []
    world.relay.check_idle(119.0, 10.0)
    assert (world.client.told, world.backend.told) == (["abort"], [b"x", "abort"])
    assert world.relay.reason == "idle_timeout"


def test_the_first_reason_counts() -> None:
    world = World().join()
    world.relay.cut("stopped")
    world.relay.client.connection_lost(ConnectionResetError())
    world.relay.backend.connection_lost(None)
    assert world.events == ["joined", "ended stopped"]


def test_a_client_that_left_while_its_backend_was_connected_leaves_no_connection_behind() -> None:
    world = World()
    world.client.abort()
    world.join()
    assert world.backend.told == ["abort"]
    assert not world.relay.is_joined
    assert world.events == []


def ended(world: World) -> None:
    world.join()
    world.relay.client.connection_lost(None)
    world.relay.backend.connection_lost(None)
    assert world.events == ["joined", "ended -"]


def never_joined(world: World) -> None:
    world.relay.backend_end()


def joined_too_late(world: World) -> None:
    world.client.abort()
    end = world.relay.backend_end()
    end.connection_made(cast(asyncio.Transport, world.backend))
    end.connection_lost(ConnectionResetError())


@pytest.mark.parametrize("story", [ended, never_joined, joined_too_late])
def test_no_relay_leaves_anything_to_the_garbage_collector(story: Callable[[World], None]) -> None:
    with leaves_no_garbage():
        world = World(b"hello")
        story(world)
        del world.relay  # as a host does at its end
