"""Shared pins in Valkey or Redis: one server, the master that Sentinels name, or a cluster.

    <prefix>pin:<key in hex>   "1 <backend>"    for the rest of the pin's life (SET ... PX; SET ... PX NX when late)
                               "1 <backend> ended"    from the end of its sign-in on, as long (a script: it compares)
    <prefix>node:<name>        its settings     for as long as it lives, and a little longer
    <prefix>nodes              a set of the nodes' names

Each command names one key only, so a cluster can spread them. They go in pipelines, without transactions: pins have
nothing to do with each other.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from valkey import exceptions as faults
from valkey.asyncio import Connection, ConnectionPool, Sentinel, SSLConnection, Valkey, ValkeyCluster
from valkey.asyncio.cluster import ClusterNode
from valkey.asyncio.retry import Retry
from valkey.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection
from valkey.backoff import NoBackoff

from mfalb.balancer.affinity.store import Pin, PinStoreAway, pin_value
from mfalb.balancer.config.pin_models import SharedStore

CALL_LIMIT_S: Final = 1.0  # connecting, and any answer: past it a store is as good as gone
_NODES_LIMIT: Final = 64  # others whose settings are read
_LEAST_LIFE_MS: Final = 1
# A pin is ours to end when it says what we stored, and has as long to live. Two calls may be a second apart each
_END: Final = b"""
local left = redis.call('PTTL', KEYS[1])
if redis.call('GET', KEYS[1]) ~= ARGV[1] or math.abs(left - tonumber(ARGV[3])) > 2000 then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', left)
return 1
"""
# The first that fits counts: subclasses stand before their bases
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (faults.AuthenticationError, "not_authenticated"),
    (faults.AuthorizationError, "not_authenticated"),
    (faults.NoPermissionError, "not_permitted"),
    (faults.ReadOnlyError, "read_only"),
    (faults.OutOfMemoryError, "full"),
    (faults.BusyLoadingError, "loading"),
    (faults.ClusterError, "cluster_down"),
    (faults.ValkeyClusterException, "cluster_down"),
    (faults.TimeoutError, "silent"),
    (faults.ConnectionError, "refused"),
    (faults.ResponseError, "refused_command"),
    (faults.ValkeyError, "failed"),
    (ssl.SSLError, "tls"),
    (TimeoutError, "silent"),
    (OSError, "refused"),
)


class ValkeyPins:
    """`SharedPins` over the library's client. `tls` is the context towards the store, None for none."""

    def __init__(self, config: SharedStore, tls: ssl.SSLContext | None) -> None:
        self._prefix = config.prefix.encode()
        self._is_cluster = config.cluster
        self._client: Any = _client(config, tls)

    async def store(self, pins: Sequence[Pin], now: float, *, only_new: bool = False) -> None:
        async with _as_away(is_cluster=self._is_cluster):
            pipeline = self._client.pipeline(**self._plain)
            for pin in pins:
                life_ms = max(round((pin.expires_at - now) * 1000), _LEAST_LIFE_MS)
                pipeline.set(self._pin_key(pin.key), pin_value(pin.backend), px=life_ms, nx=only_new)
            _raise_first(await pipeline.execute(raise_on_error=False))

    async def end(self, pins: Sequence[Pin], now: float) -> int:
        async with _as_away(is_cluster=self._is_cluster):
            pipeline = self._client.pipeline(**self._plain)
            for pin in pins:
                values = pin_value(pin.backend), pin_value(pin.backend, is_ended=True)
                life_ms = round((pin.expires_at - now) * 1000)
                pipeline.execute_command("EVAL", _END, 1, self._pin_key(pin.key), *values, life_ms)
            answers = await pipeline.execute(raise_on_error=False)
            return _raise_first([0 if _is_of_another_type(answer) else answer for answer in answers]).count(1)

    async def look_up(self, keys: Sequence[bytes]) -> Sequence[tuple[bytes, float] | None]:
        async with _as_away(is_cluster=self._is_cluster):
            pipeline = self._client.pipeline(**self._plain)
            for key in keys:
                pipeline.get(self._pin_key(key))
                pipeline.pttl(self._pin_key(key))
            answers = await pipeline.execute(raise_on_error=False)
            return [_found(value, life_ms) for value, life_ms in zip(answers[::2], answers[1::2], strict=True)]

    async def announce(self, node: str, settings: bytes, life_s: float) -> Mapping[str, bytes]:
        async with _as_away(is_cluster=self._is_cluster):
            pipeline = self._client.pipeline(**self._plain)
            pipeline.set(self._node_key(node.encode()), settings, px=round(life_s * 1000))
            pipeline.sadd(self._prefix + b"nodes", node)
            pipeline.smembers(self._prefix + b"nodes")
            answers = _raise_first(await pipeline.execute(raise_on_error=False))
            others = sorted(set(cast(list[bytes], answers[2])) - {node.encode()})[:_NODES_LIMIT]
            return await self._told_by(others)

    async def _told_by(self, nodes: Sequence[bytes]) -> Mapping[str, bytes]:
        """What other nodes have told. Those that are gone lose their place in the set."""
        if not nodes:
            return {}
        pipeline = self._client.pipeline(**self._plain)
        for node in nodes:
            pipeline.get(self._node_key(node))
        told = dict(zip(nodes, await pipeline.execute(raise_on_error=False), strict=True))
        gone = [node for node, settings in told.items() if settings is None]
        if gone:
            await self._client.srem(self._prefix + b"nodes", *gone)
        return {
            node.decode("utf-8", "replace"): settings for node, settings in told.items() if isinstance(settings, bytes)
        }

    async def close(self) -> None:
        await self._client.aclose()

    @property
    def _plain(self) -> dict[str, bool]:
        """A cluster's pipelines are no transactions anyway, and know no such argument."""
        return {} if self._is_cluster else {"transaction": False}

    def _pin_key(self, key: bytes) -> bytes:
        return self._prefix + b"pin:" + key.hex().encode()

    def _node_key(self, node: bytes) -> bytes:
        return self._prefix + b"node:" + node


# ------------------------------------------------------------------------------------------------ what came back


def _found(value: object, life_ms: object) -> tuple[bytes, float] | None:
    """A value of another type (WRONGTYPE) is one that we do not understand, not a store that fails."""
    if value is None:
        return None
    if _is_of_another_type(value):
        return b"", 0.0
    if isinstance(value, Exception):
        raise value
    if not isinstance(value, bytes) or not isinstance(life_ms, int):
        return b"", 0.0
    return value, max(life_ms, 0) / 1000


def _is_of_another_type(value: object) -> bool:
    return isinstance(value, faults.ResponseError) and (
        "WRONGTYPE" in str(value) or str(value).startswith("Operation against a key")
    )


def _raise_first(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


@asynccontextmanager
async def _as_away(*, is_cluster: bool = False) -> AsyncIterator[None]:
    """Whatever the library raises becomes PinStoreAway; its text may quote what was sent, and goes no further.

    When a cluster's node is gone the library forgets all nodes and asks anew; other calls that are under way at that
    moment stumble over what is missing (valkey 6.2: `get_default_node()` is None).
    """
    try:
        yield
    except Exception as error:
        reason = next((label for kind, label in _REASONS if isinstance(error, kind)), None)
        if reason is None and is_cluster and isinstance(error, AttributeError | LookupError):
            reason = "cluster_down"
        if reason is None:
            raise
        # What came back, this error among it, stands in frames that its traceback keeps: a cycle, and pins in it
        error.__traceback__ = None
        raise PinStoreAway(_under_refused(error) if reason == "refused" else reason) from None


def _under_refused(error: BaseException) -> str:
    """A connection that failed: for TLS, for a password, or for want of anybody there."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "tls"
        cause = cause.__cause__ or cause.__context__
    return "read_only" if "is now a slave" in str(error) else "refused"


# ------------------------------------------------------------------------------------------------------ clients


def _client(config: SharedStore, tls: ssl.SSLContext | None) -> Valkey | ValkeyCluster:
    options: dict[str, Any] = {
        "username": config.user,
        "password": None if config.password is None else config.password.reveal(),
        "socket_connect_timeout": CALL_LIMIT_S,
        "socket_timeout": None,  # the caller has a deadline for the whole call, which costs less
        "socket_keepalive": True,
    }
    if config.cluster:
        return _cluster(config, options, tls)
    options["retry"] = Retry(NoBackoff(), 0)  # when to try again is decided elsewhere
    if config.sentinel is not None:
        return _sentinel(config, config.sentinel, options, tls)
    host, port = config.addresses[0]
    kind = Connection if tls is None else _over(SSLConnection, tls)
    return Valkey(connection_pool=ConnectionPool(kind, host=host, port=port, **options))


def _sentinel(config: SharedStore, name: str, options: dict[str, Any], tls: ssl.SSLContext | None) -> Valkey:
    """Whoever the Sentinels say is the master. Each new connection asks them."""
    password = config.sentinel_password
    asked: dict[str, Any] = {"socket_timeout": CALL_LIMIT_S / 4, "retry": Retry(NoBackoff(), 0)}  # some may be gone
    asked["password"] = None if password is None else password.reveal()
    sentinels = Sentinel([], **options)  # type: ignore[no-untyped-call]  # valkey
    kind = Connection if tls is None else _over(SSLConnection, tls)
    sentinels.sentinels = [
        Valkey(connection_pool=ConnectionPool(kind, host=host, port=port, **asked)) for host, port in config.addresses
    ]
    managed = SentinelManagedConnection if tls is None else _over(SentinelManagedSSLConnection, tls)
    return cast(Valkey, sentinels.master_for(name, connection_class=managed))


def _cluster(config: SharedStore, options: dict[str, Any], tls: ssl.SSLContext | None) -> ValkeyCluster:
    nodes = [ClusterNode(host, port) for host, port in config.addresses]
    options["socket_timeout"] = CALL_LIMIT_S  # a pipeline that is cancelled would not give its connections back
    cluster = ValkeyCluster(
        startup_nodes=nodes, cluster_error_retry_attempts=1, connection_error_retry_attempts=0, **options
    )
    if tls is not None:
        kind = _over(SSLConnection, tls)
        cluster.connection_kwargs["connection_class"] = kind
        for node in cluster.nodes_manager.startup_nodes.values():
            node.connection_class = kind
    return cluster


def _over(base: type[SSLConnection], context: ssl.SSLContext) -> type[SSLConnection]:
    """Connections of that kind with the house's own TLS: versions, checked names, files that are followed."""

    class Over(base):  # type: ignore[valid-type, misc]  # a class made from an argument
        def _connection_arguments(self) -> Mapping[str, Any]:
            return {**super()._connection_arguments(), "ssl": context}

    return Over
