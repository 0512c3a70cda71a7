"""What a supervisor makes of another configuration, of what pools tell it and of what workers say.

Its life, with sockets and processes, is in tests/scenarios: test_workers.py, test_reload.py, test_upgrade.py,
test_service_manager.py, test_worker_stands_still.py.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mfalb.balancer.config.models import Config
from mfalb.balancer.config.values import Origin
from mfalb.balancer.pools.backend import AdminState
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.crew import Crew, Seat
from mfalb.balancer.supervisor.formers import Formers
from mfalb.balancer.supervisor.hand_over import Backends, Reopen, Word
from mfalb.balancer.supervisor.reload_plan import CannotReload, ReloadPlan
from mfalb.balancer.supervisor.reports import Reports
from mfalb.balancer.supervisor.service import Service
from mfalb.balancer.supervisor.succession import Succession
from mfalb.balancer.supervisor.supervisor import Supervisor
from mfalb.balancer.supervisor.worker_process import Briefing
from mfalb.errors import ConfigError, Problem
from mfalb.net.control_channel import Message

Words = dict[str, Any]
WORDS: Words = {
    "workers": 2,
    "listeners": [
        {"name": "web", "protocol": "http", "bind": ["192.0.2.1:80"], "routes": [{"pool": "portal"}]},
        {"name": "other", "protocol": "http", "bind": ["192.0.2.1:81"], "routes": [{"pool": "portal"}]},
    ],
    "pools": {
        "portal": {"backends": [{"name": name, "address": f"10.0.0.{n}:80"} for n, name in enumerate("ab", 1)]},
        "apart": {"backends": [{"name": "a", "address": "10.0.0.1:80"}]},
    },
}


def read(words: Words) -> Config:
    return Config.model_validate(words, context=Origin(Path("/")), by_alias=True, by_name=True)


@dataclass
class FakeSocket:
    number: int
    is_open: bool = True

    def fileno(self) -> int:
        return self.number

    def close(self) -> None:
        self.is_open = False


class FakeCrew:
    """Two workers that serve, and answer each question with `answer`; None: not in time."""

    def __init__(self) -> None:
        self.seats = [Seat(number, is_ready=True) for number in range(2)]
        self.asked: list[tuple[int, Message]] = []
        self.told: list[Message] = []
        self.answer: Callable[[int, Message], Words | None] = lambda _number, _message: {"fault": "", "id": 1}

    @property
    def alive(self) -> int:
        return len(self.seats)

    async def ask_all(self, question: Callable[[int], Message], _timeout_s: float) -> dict[int, Words]:
        found = {}
        for seat in reversed(self.seats):
            message = question(seat.number)
            self.asked.append((seat.number, message))
            answer = self.answer(seat.number, message)
            if answer is not None:
                found[seat.number] = answer
        return found

    def tell_all(self, message: Message) -> None:
        self.told.append(message)

    def replace_beginners(self) -> None: ...

    def kinds_asked(self) -> list[str]:
        return [message.kind for _, message in self.asked]


@dataclass
class FakeService:
    told: list[str] = field(default_factory=list)

    @contextmanager
    def reloading(self) -> Iterator[None]:
        self.told.append("reloading")
        try:
            yield
        finally:
            self.told.append("ready")


@dataclass
class FakeFormers:
    told: list[Word] = field(default_factory=list)

    def tell(self, word: Word) -> None:
        self.told.append(word)


class World:
    """A supervisor whose workers serve, and the file of its configuration, which a test rewrites."""

    def __init__(self) -> None:
        self.words = copy.deepcopy(WORDS)
        self.fault = ""
        self.sockets = {
            "web": [[FakeSocket(30), FakeSocket(31)]],
            "other": [[FakeSocket(40), FakeSocket(41)]],
        }
        nobody = cast(socket.socket, None)
        self.supervisor = Supervisor(read(WORDS), cast(Any, dict(self.sockets)), nobody, self.load)
        self.crew, self.service, self.formers = FakeCrew(), FakeService(), FakeFormers()
        self.reports = SimpleNamespace(forged=0)
        self.succession = SimpleNamespace(is_over=False)
        one = self.supervisor
        one._crew, one._service = cast(Crew, self.crew), cast(Service, self.service)
        one._formers, one._reports = cast(Formers, self.formers), cast(Reports, self.reports)
        one._succession = cast(Succession, self.succession)

    def load(self) -> Config:
        if self.fault:
            raise ConfigError([Problem("balancer.yaml", 1, 1, self.fault)])
        return read(self.words)

    @property
    def pools(self) -> dict[str, Pool]:
        return self.supervisor._pools

    def reload(self, *, is_dry_run: bool = False) -> ReloadPlan:
        return asyncio.run(self.supervisor.reload(is_dry_run=is_dry_run))

    def add_backend(self) -> None:
        self.words["pools"]["portal"]["backends"].append({"name": "c", "address": "10.0.0.3:80"})

    def briefings(self) -> list[Briefing]:
        """Those that workers were asked to prepare."""
        prepared = [message.data for _, message in self.crew.asked if message.kind == "prepare"]
        return [pickle.loads(data) for data in prepared]  # noqa: S301 - made in this process

    def next_briefing(self) -> Briefing:
        """Of a worker that would be begun now."""
        return cast(Briefing, self.supervisor._brief(0).briefing)

    def open_sockets(self) -> dict[str, bool]:
        return {name: all(one.is_open for one in places[0]) for name, places in self.sockets.items()}


@pytest.fixture
def world() -> World:
    return World()


# ------------------------------------------------------------------------------------ another configuration


def test_workers_read_another_configuration_then_take_it_up_and_later_ones_begin_with_it(world: World) -> None:
    world.add_backend()
    assert world.reload().changes == ("pool portal: backend c: added",)
    assert world.crew.kinds_asked() == ["prepare"] * 2 + ["commit"] * 2
    for briefing in (*world.briefings(), world.next_briefing()):
        assert [one.name for one in briefing.config.pools["portal"].backends] == ["a", "b", "c"]
    assert {one.number for one in world.briefings()} == {0, 1}
    (states, _) = [message.words["states"] for _, message in world.crew.asked if message.kind == "commit"]
    assert [(one["pool"], one["backend"]) for one in states] == [
        ("portal", "a"),
        ("portal", "b"),
        ("portal", "c"),
        ("apart", "a"),
    ]
    assert world.service.told == ["reloading", "ready"]


def test_pools_and_backends_that_stay_keep_what_is_known_and_ordered_of_them(world: World) -> None:
    portal, apart = world.pools["portal"], world.pools["apart"]
    backend = portal.backends["a"]
    portal.set_admin_state("a", AdminState.DRAIN, 1.0)
    backend.failures = 3
    world.add_backend()
    world.reload()
    assert world.pools == {"portal": portal, "apart": apart}
    assert portal.backends["a"] is backend
    assert (backend.admin_state, backend.failures) == (AdminState.DRAIN, 3)


def test_a_pool_that_is_gone_is_forgotten_and_one_that_is_new_tells_the_workers_of_changes(world: World) -> None:
    world.words["pools"]["new"] = world.words["pools"].pop("apart")
    world.reload()
    assert list(world.pools) == ["portal", "new"]
    assert world.pools["new"].on_change == world.supervisor._note_change


def test_the_sockets_of_a_listener_that_is_gone_are_closed_once_the_workers_have_changed(world: World) -> None:
    del world.words["listeners"][1]

    def still_open(_number: int, message: Message) -> Words:
        assert world.open_sockets() == {"web": True, "other": True}, message.kind
        return {"fault": "", "id": 1}

    world.crew.answer = still_open
    world.reload()
    assert world.open_sockets() == {"web": True, "other": False}
    assert world.next_briefing().sockets == (("web", 1),)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [({"fault": "no such file", "id": 1}, "no such file"), (None, "a worker does not answer"), ({"id": 1}, "nonsense")],
)
def test_when_a_worker_cannot_nothing_has_changed_and_the_reason_is_logged(
    world: World, answer: Words | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    pools, before = dict(world.pools), world.next_briefing()
    world.add_backend()
    del world.words["listeners"][1]
    world.crew.answer = lambda number, _: answer if number == 1 else {"fault": "", "id": 1}
    with pytest.raises(CannotReload, match=reason):
        world.reload()
    assert world.crew.kinds_asked() == ["prepare"] * 2
    assert [message.kind for message in world.crew.told] == ["abandon"]
    assert world.pools == pools
    assert list(world.pools["portal"].backends) == ["a", "b"]
    assert world.next_briefing() == before
    assert world.open_sockets() == {"web": True, "other": True}
    (record,) = caplog.records
    assert record.message == "the new configuration is not used"
    assert reason in vars(record)["reason"]


def test_a_file_that_cannot_be_read_and_one_that_takes_a_restart_reach_no_worker(world: World) -> None:
    world.words["workers"] = 3
    with pytest.raises(CannotReload, match="take a restart, nothing was changed: workers"):
        world.reload()
    world.fault = "nothing there"
    with pytest.raises(ConfigError, match="nothing there"):
        world.reload()
    assert world.crew.asked == []
    assert world.service.told == ["reloading", "ready"] * 2


def test_a_dry_run_tells_the_plan_and_reaches_nobody(world: World) -> None:
    world.add_backend()
    assert world.reload(is_dry_run=True).changes == ("pool portal: backend c: added",)
    assert (world.crew.asked, world.crew.told, world.service.told) == ([], [], [])
    assert list(world.pools["portal"].backends) == ["a", "b"]


def test_a_file_that_has_not_changed_reaches_no_worker(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert world.reload().is_empty
    assert world.crew.asked == []
    assert [record.message for record in caplog.records] == ["reloaded: nothing has changed"]


def test_when_another_process_serves_nothing_is_reloaded(world: World) -> None:
    world.succession.is_over = True
    world.add_backend()
    with pytest.raises(CannotReload, match="another process serves now"):
        world.reload()
    assert world.crew.asked == []


def test_one_reload_waits_for_the_end_of_another(world: World) -> None:
    async def both() -> None:
        world.add_backend()
        await asyncio.gather(*[world.supervisor.reload() for _ in range(2)])

    asyncio.run(both())
    assert world.service.told == ["reloading", "ready"] * 2
    assert world.crew.kinds_asked().count("commit") == 2, "the second one finds nothing to do"


# ------------------------------------------------------------------------------------ SIGHUP


def test_sighup_reopens_the_access_log_of_workers_and_former_processes_and_reloads(world: World) -> None:
    async def hang_up() -> None:
        world.supervisor._hung_up()
        await asyncio.gather(*world.supervisor._tasks._running)

    world.supervisor._config = world.supervisor._config.model_copy(
        update={"log": world.supervisor._config.log.model_copy(update={"access_file": Path("/access.log")})}
    )
    asyncio.run(hang_up())
    assert [message.kind for message in world.crew.told] == ["reopen"]
    assert world.formers.told == [Reopen()]
    assert world.service.told == ["reloading", "ready"]


def test_without_an_access_file_sighup_reloads_only_and_a_file_that_is_wrong_ends_nothing(world: World) -> None:
    async def hang_up() -> None:
        world.supervisor._hung_up()
        await asyncio.gather(*world.supervisor._tasks._running)

    world.fault = "nothing there"
    asyncio.run(hang_up())
    assert world.crew.told == []
    assert world.service.told == ["reloading", "ready"]


# ------------------------------------------------------------------------------------ what pools tell, and workers say


def test_what_changes_at_once_is_told_once_to_workers_and_to_former_processes(world: World) -> None:
    async def story() -> None:
        for pool in world.pools.values():
            pool.on_change = world.supervisor._note_change
        world.pools["portal"].set_weight("a", 5)
        world.pools["portal"].set_weight("b", 6)
        world.pools["apart"].set_weight("a", 7)
        assert world.crew.told == []
        await asyncio.sleep(0)
        world.pools["portal"].set_weight("b", 8)
        await asyncio.sleep(0)

    asyncio.run(story())
    weights = [[(one["pool"], one["weight"]) for one in message.words["states"]] for message in world.crew.told]
    assert weights == [[("portal", 5), ("portal", 6), ("apart", 7)], [("portal", 5), ("portal", 8)]]
    assert world.formers.told == [Backends(states=message.words["states"]) for message in world.crew.told]


def test_evidence_is_scored_and_what_means_nothing_is_counted(world: World) -> None:
    backend = world.pools["portal"].backends["a"]
    about = {"pool": "portal", "backend": "a"}
    world.supervisor._heard(1, Message({"kind": "failed", **about, "reason": "broken", "streak": 1}))
    assert (backend.failures, world.reports.forged) == (1, 0)
    for words in ({}, {"kind": "good", "pool": "portal", "backend": "nobody"}, {"kind": "let_go", "number": 5}):
        world.supervisor._heard(1, Message(words))
    assert world.reports.forged == 3


def test_sockets_are_kept_for_the_next_worker_and_those_of_nobody_are_closed_and_counted(world: World) -> None:
    ours, theirs = os.pipe()
    keep = {"kind": "keep", "number": 1, "owner": "radius", "backend": "a"}
    world.supervisor._heard(0, Message(keep, descriptors=(ours,)))
    world.supervisor._heard(0, Message(keep | {"number": 2, "backend": "nobody"}, descriptors=(theirs,)))
    assert world.reports.forged == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(theirs)
    (kept,) = world.supervisor._brief(0).before
    assert (kept.descriptors, world.supervisor._brief(1).before) == ((ours,), ())
    world.supervisor._let_workers_wait(True)
    assert world.supervisor._brief(0).before == (), "they come with the order to serve"
    world.supervisor._heard(0, Message({"kind": "let_go", "number": 1}))
    assert world.reports.forged == 1
    world.supervisor._let_workers_wait(False)
    assert world.supervisor._brief(0).before == ()


def test_a_worker_is_begun_with_its_own_sockets_and_all_states(world: World) -> None:
    orders = world.supervisor._brief(1)
    briefing = cast(Briefing, orders.briefing)
    assert (briefing.number, briefing.sockets) == (1, (("web", 1), ("other", 1)))
    assert orders.descriptors[-2:] == (31, 41)
    assert [(one["pool"], one["backend"]) for one in orders.words["states"]] == [
        ("portal", "a"),
        ("portal", "b"),
        ("apart", "a"),
    ]
    assert orders.words["waits"] is False


def test_turns_are_told_in_the_order_of_the_workers(world: World) -> None:
    world.crew.answer = lambda number, _: {"backend": "ab"[number]}
    assert asyncio.run(world.supervisor.next_in_turn("portal", b"key")) == ["a", "b"]
    assert {message.words["key"] for _, message in world.crew.asked} == {b"key".hex()}
