from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from unit.balancer.affinity.node_pins import pin_hub

from mfalb.balancer.admin import api_models as api
from mfalb.balancer.admin.operations import Refused
from mfalb.balancer.affinity.cookie import CookiePin, CookieSealer
from mfalb.balancer.affinity.hub import Hub
from mfalb.balancer.affinity.radius_session import BY_CLASS, BY_STATION
from mfalb.balancer.affinity.radius_state import radius_state_key
from mfalb.balancer.affinity.store import Pin, PinCounters, PinEnd, pin_key
from mfalb.balancer.affinity.transaction import transaction_key
from mfalb.balancer.config.models import Config
from mfalb.balancer.config.values import Origin, Secret
from mfalb.balancer.pools.backend import AdminState
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.hand_over import CannotUpgrade, HandedDrain
from mfalb.balancer.supervisor.operations import Clocks, SupervisorOperations
from mfalb.balancer.supervisor.reload_plan import CannotReload, ReloadPlan

WALL = 1_800_000_000.0
KEY = b"k" * 32
STATE = b"\x01\x02secret-state"
BACKENDS = [{"name": name, "address": f"10.0.0.{number}:1812", "weight": number} for number, name in enumerate("ab", 1)]
RADIUS = [{**one, "secret": Secret(b"towards-servers")} for one in BACKENDS]
CONFIG: dict[str, Any] = {
    "listeners": [
        {"name": "web", "protocol": "http", "bind": ["127.0.0.1:80"], "routes": [{"pool": "portal"}]},
        {
            "name": "radius",
            "protocol": "radius",
            "bind": ["127.0.0.1:1812"],
            "clients": [
                {"name": "campus", "network": "10.0.0.0/8", "secret": Secret(b"shared-with-clients")},
                {"name": "vpn", "network": "10.1.0.0/16", "secret": Secret(b"shared-with-clients")},
            ],
            "pool": "mfa",
        },
    ],
    "pools": {
        "mfa": {"backends": RADIUS, "affinity": {"type": "radius_state"}},
        "records": {"backends": RADIUS, "affinity": {"type": "radius_session", "follows": "mfa"}},
        "sdk": {"backends": BACKENDS, "affinity": {"type": "transaction"}},
        "portal": {"backends": BACKENDS, "affinity": {"type": "cookie"}},
        "hashed": {"backends": BACKENDS, "algorithm": "hash", "hash": {"key": "source"}},
        "by_path": {"backends": BACKENDS, "algorithm": "hash", "hash": {"key": "path"}},
        "by_client": {"backends": RADIUS, "algorithm": "hash", "hash": {"key": "client"}},
    },
}


class Workers:
    """One worker, whose turns are those of the pools that it is given."""

    def __init__(self, pools: dict[str, Pool], pins: Hub) -> None:
        self.pools = pools
        self.pins = pins
        self.plan = ReloadPlan((), ())
        self.others: list[str | None] = []  # what further workers say

    async def refresh(self) -> None: ...

    def total(self, sample: str) -> float:
        counters = self.pins.counters
        return {"mfalb_pins_hit_total": counters.hits, "mfalb_pins_missed_total": counters.misses}[sample]

    async def next_in_turn(self, pool: str, key: bytes) -> list[str | None]:
        backend = self.pools[pool].peek(key)
        return [None if backend is None else backend.name, *self.others]

    async def reload(self, *, is_dry_run: bool) -> ReloadPlan:
        assert is_dry_run
        if self.plan.needs_restart:
            raise CannotReload("these settings take a restart")
        return self.plan

    async def upgrade(self) -> api.Upgraded:
        raise CannotUpgrade("the new process ended with 1")


class World:
    """Operations on pools, pins and clocks that a test moves."""

    def __init__(self) -> None:
        config = Config.model_validate(CONFIG, context=Origin(Path("/")), by_alias=True, by_name=True)
        config = config.model_copy(update={"pins": config.pins.model_copy(update={"cookie_keys": (_secret(),)})})
        self.now = 1000.0
        self.pools = {name: Pool(name, pool, lambda: 0.5) for name, pool in config.pools.items()}
        self.pins = pin_hub(100)
        self.workers = Workers(self.pools, self.pins)
        clocks = Clocks(lambda: self.now, lambda: WALL + self.now)
        self.operations = SupervisorOperations(lambda: config, self.pools, self.pins, self.workers, clocks)

    def pin(self, key: bytes, backend: str, life_s: float = 300.0) -> None:
        self.pins.put(Pin(key, backend, self.now + life_s), self.now)

    def state(self, pool: str, name: str) -> str:
        return self.pools[pool].backends[name].admin_state.value

    async def set(self, backend: str, state: str, **more: object) -> api.Changed:
        change = api.AdminStateChange.model_validate({"backend": backend, "state": state, **more})
        return await self.operations.set_admin_state(change)

    async def leaving(self, backend: str) -> api.Leaving:
        (found,) = (await self.operations.leaving(backend)).backends
        return found

    async def why(self, kind: str, **more: object) -> api.Verdict:
        (verdict,) = (await self.operations.why(_question(kind, more))).verdicts
        return verdict


def _secret() -> Secret:
    return Secret(KEY)


def _question(kind: str, more: dict[str, object]) -> api.Question:
    models: dict[str, type[Any]] = {
        "cookie": api.CookieQuestion,
        "state": api.StateQuestion,
        "request_id": api.RequestIdQuestion,
        "source": api.SourceQuestion,
    }
    question: api.Question = models[kind].model_validate({"kind": kind, **more})
    return question


@pytest.fixture
def world() -> World:
    return World()


async def test_a_name_without_a_pool_means_the_backend_in_every_pool_that_has_it(world: World) -> None:
    changed = await world.set("a", "drain")
    assert [one.pool for one in changed.backends] == list(world.pools)
    assert {world.state(pool, "a") for pool in world.pools} == {"drain"}
    await world.set("mfa/a", "ready")
    assert (world.state("mfa", "a"), world.state("sdk", "a"), world.state("mfa", "b")) == ("ready", "drain", "ready")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mfa/aa", "pool 'mfa' has no backend 'aa'; did you mean 'a'?"),
        ("mfb/a", "there is no pool 'mfb'; did you mean 'mfa'?"),
        ("zzz", "no pool has a backend 'zzz'; backends: a, b"),
    ],
)
async def test_a_name_that_is_not_there_changes_nothing_and_what_was_meant_is_told(
    world: World, name: str, text: str
) -> None:
    with pytest.raises(Refused, match=r".") as refused:
        await world.set(name, "maint")
    assert (str(refused.value), refused.value.is_unknown) == (text, True)
    assert {world.state(pool, "a") for pool in world.pools} == {"ready"}


async def test_weights_are_set_and_go_back_to_the_configuration_s(world: World) -> None:
    changed = await world.operations.set_weight(api.WeightChange(backend="mfa/b", weight=7))
    assert [(one.weight, one.configured_weight) for one in changed.backends] == [(7, 2)]
    changed = await world.operations.set_weight(api.WeightChange(backend="mfa/b", weight=None))
    assert [one.weight for one in changed.backends] == [2]


def state_key(number: int, pool: str = "mfa") -> bytes:
    return radius_state_key(pool, "vpn", b"alice", b"state%d" % number)


async def test_a_drain_tells_pins_and_the_longest_of_them_and_ends_with_the_last(world: World) -> None:
    world.pin(state_key(1), "a", 60.0)
    world.pin(state_key(2), "a", 20.0)
    world.pin(state_key(3), "b", 500.0)
    world.pin(transaction_key("sdk", "alice", "17"), "a", 400.0)
    await world.set("mfa/a", "drain", then="maint")
    found = await world.leaving("mfa/a")
    assert (found.pins, found.longest_s, found.is_done, found.then) == (2, 60.0, False, "maint")
    assert (await world.leaving("sdk/a")).pins == 1, "another pool's backend of the same name has its own"
    world.now += 30.0
    assert (await world.leaving("mfa/a")).pins == 1
    world.operations.tend()
    assert world.state("mfa", "a") == "drain"
    world.now += 30.0
    world.operations.tend()
    assert world.state("mfa", "a") == "maint"


async def test_a_drain_ends_with_the_last_sign_in_long_before_its_pin_expires(world: World) -> None:
    world.pin(state_key(1), "a")
    world.pin(state_key(2), "a")
    await world.set("mfa/a", "drain", then="maint")
    for number, (pins, state) in enumerate(((1, "drain"), (0, "maint")), 1):
        world.now += 1.0
        world.pins.end(PinEnd(state_key(number), "a", world.now), world.now)
        found = await world.leaving("mfa/a")
        assert (found.pins, found.is_done) == (pins, not pins)
        world.operations.tend()
        assert world.state("mfa", "a") == state


async def test_a_drain_does_not_end_by_a_count_from_before_its_last_exchange_made_a_pin(world: World) -> None:
    backend = world.pools["mfa"].backends["a"]
    backend.active = 1
    await world.set("mfa/a", "drain", then="maint")
    assert (await world.leaving("mfa/a")).pins == 0, "which is kept for a while"
    world.pin(state_key(1), "a")
    backend.active = 0
    world.operations.tend()
    assert world.state("mfa", "a") == "drain"
    assert (await world.leaving("mfa/a")).pins == 1


async def test_sessions_that_accounting_is_found_by_are_those_of_the_pool_that_keeps_the_records(world: World) -> None:
    world.pin(pin_key(BY_STATION, "mfa", b"vpn", b"alice", b""), "a", 86_400.0)
    world.pin(pin_key(BY_CLASS, "mfa", b"vpn", b"alice", b"class"), "a", 40_000.0)
    assert [(await world.leaving(f"{pool}/a")).pins for pool in ("mfa", "records")] == [0, 2]
    assert (await world.leaving("records/a")).longest_s == 86_400.0


async def test_a_deadline_ends_a_drain_whatever_is_left(world: World) -> None:
    world.pin(state_key(1), "a")
    await world.set("mfa/a", "drain", deadline_s=10, then="maint")
    world.now += 9.9
    world.operations.tend()
    assert (world.state("mfa", "a"), (await world.leaving("mfa/a")).deadline_in_s) == ("drain", 0.1)
    world.now += 0.1
    world.operations.tend()
    assert world.state("mfa", "a") == "maint"


async def test_a_backend_that_is_made_ready_is_not_put_into_maint_by_its_former_drain(world: World) -> None:
    await world.set("mfa/a", "drain", deadline_s=10, then="maint")
    await world.set("mfa/a", "ready")
    world.now += 60.0
    world.operations.tend()
    assert world.state("mfa", "a") == "ready"


async def test_sessions_in_cookies_cannot_be_counted_and_only_a_deadline_ends_their_drain(world: World) -> None:
    with pytest.raises(Refused, match="give a deadline"):
        await world.set("portal/a", "drain", then="maint")
    assert world.state("portal", "a") == "ready"
    await world.set("portal/a", "drain", deadline_s=10, then="maint")
    found = await world.leaving("portal/a")
    assert (found.pins, found.needs_deadline, found.is_done) == (None, True, False)
    assert "cannot be counted" in found.text
    assert "1800 s" in found.text
    world.now += 10.0
    world.operations.tend()
    assert world.state("portal", "a") == "maint"


@pytest.mark.parametrize("more", [{"deadline_s": 5.0}, {"then": "maint"}])
async def test_a_deadline_for_anything_but_a_drain_is_refused(world: World, more: dict[str, object]) -> None:
    with pytest.raises(Refused, match="for state drain, not maint"):
        await world.set("mfa/a", "maint", **more)
    assert world.state("mfa", "a") == "ready"


async def test_pins_are_counted_by_pool_and_backend_and_cookies_are_said_to_be_elsewhere(world: World) -> None:
    world.pin(state_key(1), "a", 60.0)
    world.pin(transaction_key("sdk", "alice", "17"), "a", 40.0)
    world.pin(transaction_key("sdk", "bob", "18"), "gone", 20.0)
    world.pin(state_key(1, "former"), "a", 30.0)
    world.pin(transaction_key("former", "bob", "18"), "a", 70.0)
    found = await world.operations.pins(None)
    assert [(one.pool, one.backend, one.pins, one.longest_s) for one in found.backends] == [
        (None, "a", 2, 70.0),
        ("mfa", "a", 1, 60.0),
        ("sdk", "a", 1, 40.0),
        ("sdk", "gone", 1, 20.0),
    ]
    assert (found.total, found.limit, found.made, found.cookie_pools) == (5, 1_000_000, 5, ("portal",))
    assert [one.backend for one in (await world.operations.pins("mfa")).backends] == ["a"]
    with pytest.raises(Refused, match="there is no pool 'mf'"):
        await world.operations.pins("mf")


@pytest.mark.parametrize("written", [STATE.hex(), "0x" + STATE.hex().upper()])
async def test_a_state_leads_to_the_server_that_made_it_and_asking_leaves_no_trace(world: World, written: str) -> None:
    world.pin(radius_state_key("mfa", "vpn", b"alice", STATE), "b")
    asked = {"pool": "mfa", "state": written, "client": "vpn", "user": "alice"}
    verdict = await world.why("state", **asked)
    assert (verdict.backend, verdict.finding) == ("b", "valid")
    assert "counts for 300 s more" in verdict.text
    await world.set("mfa/b", "drain")
    assert "draining: what is pinned to it is still served" in (await world.why("state", **asked)).text
    await world.set("mfa/b", "maint")
    verdict = await world.why("state", **asked)
    assert (verdict.backend, verdict.finding) == (None, "down")
    assert "b, which is in maint" in verdict.text
    assert "Access-Reject" in verdict.text
    assert world.pins.counters == PinCounters(made=1)


async def test_a_state_that_is_not_known_goes_where_every_node_would_send_it(world: World) -> None:
    asked = {"pool": "mfa", "state": STATE.hex(), "client": "vpn", "user": "mallory"}
    verdict = await world.why("state", **asked)
    agreed = world.pools["mfa"].agreed(radius_state_key("mfa", "vpn", b"mallory", STATE))
    assert agreed is not None
    assert (verdict.backend, verdict.finding) == (agreed.name, "unknown")
    await world.set("a", "maint")
    await world.set("b", "maint")
    assert (await world.why("state", **asked)).backend is None


async def test_a_client_that_is_not_configured_is_said_to_be_none(world: World) -> None:
    with pytest.raises(Refused, match="clients: campus, vpn"):
        await world.why("state", pool="mfa", state=STATE.hex(), client="vnp", user="alice")


async def test_a_request_id_leads_to_its_server_in_any_letter_case_of_the_user(world: World) -> None:
    world.pin(transaction_key("sdk", "alice", "17"), "a")
    assert (await world.why("request_id", pool="sdk", request_id="17", user="ALICE")).backend == "a"
    world.pools["sdk"].backends["a"].is_ejected = True
    verdict = await world.why("request_id", pool="sdk", request_id="17", user="alice")
    assert (verdict.backend, verdict.finding) == (None, "down")
    assert "answered 503" in verdict.text


async def test_a_cookie_is_judged_and_its_session_may_go_on_elsewhere(world: World) -> None:
    def sealed(used_ago_s: int, issued_ago_s: int, backend: str = "b") -> str:
        now = int(WALL + world.now)
        pin = CookiePin(backend, now - issued_ago_s, now - used_ago_s)
        return CookieSealer([KEY]).seal("portal", pin, bytes(12))

    async def finding(value: str) -> tuple[str, str | None]:
        verdict = await world.why("cookie", pool="portal", value=value)
        assert value not in verdict.text
        return verdict.finding, verdict.backend

    next_in_turn = world.pools["portal"].peek()
    assert next_in_turn is not None
    assert await finding(sealed(10, 100)) == ("valid", "b")
    assert await finding(sealed(1801, 1900)) == ("expired", next_in_turn.name)
    assert await finding(sealed(10, 50_000)) == ("old", next_in_turn.name)
    assert await finding("made-up") == ("invalid", next_in_turn.name)
    assert await finding(sealed(10, 100, "removed")) == ("down", next_in_turn.name)
    await world.set("portal/b", "maint")
    assert await finding(sealed(10, 100)) == ("down", "a")


async def test_a_question_about_the_wrong_kind_of_pool_is_refused(world: World) -> None:
    with pytest.raises(Refused, match="pool 'sdk' has affinity transaction; this asks about cookie"):
        await world.why("cookie", pool="sdk", value="x")
    with pytest.raises(Refused, match="pool 'sdk' has affinity transaction; this asks about radius_state"):
        await world.why("state", pool="sdk", state="00", client="vpn", user="alice")
    with pytest.raises(Refused, match="pool 'portal' has affinity cookie"):
        await world.why("request_id", pool="portal", request_id="17", user="alice")


@pytest.mark.parametrize("written", ["10.1.2.3", "10.1.2.3:4711", "[2001:db8::1]:4711", "2001:db8::1"])
async def test_a_source_s_backend_by_hash_is_the_one_that_then_gets_it(world: World, written: str) -> None:
    verdict = await world.why("source", source=written, pool="hashed")
    key = b"10.1.2.3" if written.startswith("10") else b"2001:db8::1"
    picked = world.pools["hashed"].pick(key=key)
    assert picked is not None
    assert verdict.backend == picked.name


async def test_the_client_s_name_is_found_by_the_nearest_network(world: World) -> None:
    config = CONFIG["listeners"][1] | {"pool": "by_client"}
    whole = Config.model_validate(
        CONFIG | {"listeners": [CONFIG["listeners"][0], config]}, context=Origin(Path("/")), by_alias=True, by_name=True
    )
    operations = SupervisorOperations(lambda: whole, world.pools, world.pins, world.workers)
    question = api.SourceQuestion(kind="source", source="10.1.2.3", pool="by_client")
    (verdict,) = (await operations.why(question)).verdicts
    picked = world.pools["by_client"].pick(key=b"vpn")
    assert picked is not None
    assert verdict.backend == picked.name


async def test_what_an_address_does_not_tell_is_said(world: World) -> None:
    verdict = await world.why("source", source="10.1.2.3", pool="by_path")
    assert "made of path, which an address does not tell" in verdict.text


async def test_a_source_without_a_pool_is_told_for_every_pool(world: World) -> None:
    question = api.SourceQuestion(kind="source", source="10.1.2.3")
    verdicts = (await world.operations.why(question)).verdicts
    assert [one.pool for one in verdicts] == list(world.pools)
    for bad in ("10.1.2", "nas:1", "10.1.2.3.4:1"):
        with pytest.raises(Refused, match="write IP"):
            await world.why("source", source=bad, pool="mfa")


async def test_what_is_asked_reaches_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await world.why("state", pool="mfa", state=STATE.hex(), client="vpn", user="alice")
    await world.why("cookie", pool="portal", value="a-session-cookie")
    assert caplog.text == ""


async def test_workers_whose_turns_differ_are_told_one_by_one(world: World) -> None:
    here = world.pools["portal"].peek()
    assert here is not None
    other = "a" if here.name == "b" else "b"
    world.workers.others = [other]
    verdict = await world.why("source", source="10.1.2.3", pool="portal")
    assert verdict.backend is None
    assert f"worker 0: {here.name}, worker 1: {other}" in verdict.text
    world.workers.others = [here.name]
    assert (await world.why("source", source="10.1.2.3", pool="portal")).backend == here.name


async def test_a_reload_tells_what_changes_and_how_many_pins_lose_their_backend(world: World) -> None:
    world.pin(state_key(1), "a")
    world.workers.plan = ReloadPlan(
        ("pool mfa: backend a: removed",), (), (("mfa", "a"), ("portal", "a"), ("sdk", "b"))
    )
    told = await world.operations.reload(api.ReloadOrder(dry_run=True))
    assert told.changes == ("pool mfa: backend a: removed",)
    assert [(one.pool, one.backend, one.pins) for one in told.leaving] == [
        ("mfa", "a", 1),
        ("portal", "a", None),
        ("sdk", "b", 0),
    ]


async def test_a_reload_that_cannot_be_done_is_refused_with_its_reason(world: World) -> None:
    world.workers.plan = ReloadPlan((), ("workers",))
    with pytest.raises(Refused, match="take a restart"):
        await world.operations.reload(api.ReloadOrder(dry_run=True))


# ------------------------------------------------------------------------------------ another process takes over


async def test_why_nobody_took_over_is_told_and_that_all_is_served_as_before(world: World) -> None:
    with pytest.raises(Refused, match=r"the new process ended with 1\. The running process serves on"):
        await world.operations.upgrade(api.UpgradeOrder())


async def test_drains_go_on_in_the_next_process_where_their_backends_are_there(world: World) -> None:
    order = api.AdminStateChange(backend="mfa/a", state="drain", deadline_s=60.0, then="maint")
    await world.operations.set_admin_state(order)
    handed = world.operations.handed_drains()
    assert handed == [HandedDrain(pool="mfa", backend="a", deadline_at=world.now + 60.0, is_maint_next=True)]

    following = World()
    following.pools["mfa"].set_admin_state("a", AdminState.DRAIN, following.now)
    gone = [HandedDrain(pool=pool, backend=name, deadline_at=None, is_maint_next=True) for pool, name in GONE]
    following.operations.go_on_with([*handed, *gone])
    assert following.operations.handed_drains() == handed
    following.pin(state_key(1), "a")
    following.operations.tend()
    assert following.state("mfa", "a") == "drain"
    following.now += 61.0
    following.operations.tend()
    assert following.state("mfa", "a") == "maint"


GONE = [("mfa", "b99"), ("no pool", "b1")]
