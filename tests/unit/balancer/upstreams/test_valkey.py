"""How the library's client is made, and what becomes of what it gives back. No socket is opened."""

from __future__ import annotations

import ssl
from typing import Any, cast

import pytest
from unit.no_garbage import leaves_no_garbage
from unit.still_loop import run
from valkey import exceptions as faults
from valkey.asyncio import SSLConnection, Valkey, ValkeyCluster
from valkey.asyncio.sentinel import SentinelManagedSSLConnection

from mfalb.balancer.affinity.store import Pin, PinStoreAway
from mfalb.balancer.config.pin_models import SharedStore
from mfalb.balancer.config.values import Address, Secret
from mfalb.balancer.upstreams.valkey import ValkeyPins, _as_away, _client, _found

ADDRESS = Address("192.0.2.1", 6379)


class Pipeline:
    """Notes what it is asked for, and gives the answers that the test wants."""

    def __init__(self, answers: list[Any]) -> None:
        self.commands: list[tuple[Any, ...]] = []
        self.answers = answers

    def set(self, key: bytes, value: bytes, px: int, *, nx: bool = False) -> None:
        self.commands.append(("SET", key, value, px, nx))

    def get(self, key: bytes) -> None:
        self.commands.append(("GET", key))

    def pttl(self, key: bytes) -> None:
        self.commands.append(("PTTL", key))

    def execute_command(self, *words: Any) -> None:
        self.commands.append(words)

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error, "each answer is looked at by itself"
        return self.answers


class Client:
    def __init__(self, *answers: Any) -> None:
        self.made = Pipeline(list(answers))

    def pipeline(self, *, transaction: bool) -> Pipeline:
        assert not transaction
        return self.made


def pins_over(client: Client, **more: Any) -> ValkeyPins:
    pins = ValkeyPins(SharedStore(type="valkey", addresses=(ADDRESS,), **more), None)
    pins._client = client
    return pins


def test_a_pin_is_a_value_with_the_rest_of_its_life_and_a_late_one_takes_no_other_s_place() -> None:
    for only_new in (False, True):
        client = Client(True, True)
        some = [Pin(b"\x01" * 16, "mfa1", 110.0), Pin(b"\x02" * 16, "mfa2", 99.0)]
        run(pins_over(client, prefix="x:").store(some, 100.0, only_new=only_new))
        assert client.made.commands == [
            ("SET", b"x:pin:" + b"01" * 16, b"1 mfa1", 10_000, only_new),
            ("SET", b"x:pin:" + b"02" * 16, b"1 mfa2", 1, only_new),
        ]


def test_each_key_is_looked_up_with_its_time() -> None:
    client = Client(b"1 mfa1", 5000, None, -2)
    found = run(pins_over(client).look_up([b"\x01" * 16, b"\x02" * 16]))
    assert found == [(b"1 mfa1", 5.0), None]
    key = b"mfalb:pin:" + b"01" * 16
    assert client.made.commands[:2] == [("GET", key), ("PTTL", key)]


def test_an_end_is_compared_with_what_stands_there_and_one_that_is_not_ours_is_none() -> None:
    wrong = faults.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value script: 0a, on @x")
    client = Client(1, 0, wrong)
    some = [Pin(bytes((number,)) * 16, "mfa1", 110.0) for number in (1, 2, 3)]
    assert run(pins_over(client).end(some, 100.0)) == 1
    key = b"mfalb:pin:" + b"01" * 16
    verb, _, *words = client.made.commands[0]
    assert (verb, words) == ("EVAL", [1, key, b"1 mfa1", b"1 mfa1 ended", 10_000])
    with pytest.raises(PinStoreAway) as caught:
        run(pins_over(Client(faults.NoPermissionError("no"))).end(some[:1], 100.0))
    assert caught.value.reason == "not_permitted"


def test_a_value_of_another_type_is_foreign_and_one_without_an_end_counts_as_over() -> None:
    wrong = faults.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
    assert _found(wrong, -1) == (b"", 0.0)
    assert _found(b"1 mfa1", -1) == (b"1 mfa1", 0.0)
    with pytest.raises(faults.ReadOnlyError):
        _found(faults.ReadOnlyError("x"), -1)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (faults.AuthenticationError("WRONGPASS secret"), "not_authenticated"),
        (faults.NoPermissionError("no"), "not_permitted"),
        (faults.ReadOnlyError("no"), "read_only"),
        (faults.ConnectionError("The previous master is now a slave"), "read_only"),
        (faults.OutOfMemoryError("no"), "full"),
        (faults.BusyLoadingError("no"), "loading"),
        (faults.ClusterError("no"), "cluster_down"),
        (faults.SlotNotCoveredError("no"), "cluster_down"),
        (faults.TimeoutError("no"), "silent"),
        (TimeoutError(), "silent"),
        (faults.ConnectionError("no"), "refused"),
        (ConnectionRefusedError(), "refused"),
        (ssl.SSLCertVerificationError("no"), "tls"),
        (faults.ResponseError("ERR no"), "refused_command"),
        (faults.InvalidResponse("no"), "failed"),
    ],
)
def test_what_the_library_raises_becomes_a_short_word_and_its_text_goes_nowhere(error: Exception, reason: str) -> None:
    async def story() -> None:
        async with _as_away():
            raise error

    with pytest.raises(PinStoreAway) as caught:
        run(story())
    assert (caught.value.reason, str(caught.value)) == (reason, reason)
    assert caught.value.__cause__ is None


def test_a_failed_handshake_is_told_from_an_address_where_nobody_is() -> None:
    error = faults.ConnectionError("Error connecting")
    error.__cause__ = ssl.SSLError("handshake")

    async def story() -> None:
        async with _as_away():
            raise error

    with pytest.raises(PinStoreAway, match="tls"):
        run(story())


def test_what_the_library_stumbles_over_while_it_looks_for_a_cluster_s_nodes_is_a_cluster_that_is_down() -> None:
    async def story(*, is_cluster: bool) -> None:
        async with _as_away(is_cluster=is_cluster):
            raise AttributeError("'NoneType' object has no attribute 'name'")

    with pytest.raises(PinStoreAway, match="cluster_down"):
        run(story(is_cluster=True))
    with pytest.raises(AttributeError):
        run(story(is_cluster=False))


def test_a_fault_of_our_own_is_not_the_store_s() -> None:
    async def story() -> None:
        async with _as_away():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(story())


def test_one_refused_command_makes_the_whole_call_fail() -> None:
    client = Client(True, faults.ReadOnlyError("You can't write against a read only replica."))
    with pytest.raises(PinStoreAway, match="read_only"):
        run(pins_over(client).store([Pin(b"k" * 16, "b1", 110.0)] * 2, 100.0))


@pytest.mark.parametrize("call", ["store", "look_up"])
def test_a_refused_call_leaves_nothing_to_the_garbage_collector(call: str) -> None:
    async def refused() -> None:
        error = faults.ReadOnlyError("You can't write against a read only replica.")
        pins = pins_over(Client(error, error))
        del error
        with pytest.raises(PinStoreAway, match="read_only"):
            await (pins.store([Pin(b"k" * 16, "b1", 110.0)], 100.0) if call == "store" else pins.look_up([b"k" * 16]))

    async def story() -> None:
        with leaves_no_garbage():
            await refused()

    run(story())


@pytest.mark.parametrize("shape", ["one", "sentinel", "cluster"])
def test_towards_every_shape_of_store_the_house_s_own_tls_is_used(shape: str) -> None:
    shapes: dict[str, dict[str, Any]] = {"one": {}, "sentinel": {"sentinel": "pins"}, "cluster": {"cluster": True}}
    context = ssl.create_default_context()
    config = SharedStore(type="valkey", addresses=(ADDRESS,), user="u", password=Secret(b"\xff p"), **shapes[shape])

    async def story() -> None:
        client, kind, options = _client(config, context), cast(Any, None), cast(dict[str, Any], {})
        if isinstance(client, ValkeyCluster):
            (node,) = client.nodes_manager.startup_nodes.values()
            kind, options = node.connection_class, node.connection_kwargs
            assert client.connection_kwargs["connection_class"] is kind, "nodes that are found later, too"
        else:
            assert isinstance(client, Valkey)
            kind, options = client.connection_pool.connection_class, client.connection_pool.connection_kwargs
        assert issubclass(kind, SentinelManagedSSLConnection if shape == "sentinel" else SSLConnection)
        assert (options["username"], options["password"]) == ("u", b"\xff p")
        connection = kind(**options, **({} if "host" in options else {"host": "192.0.2.1"}))
        assert connection._connection_arguments()["ssl"] is context

    run(story())
