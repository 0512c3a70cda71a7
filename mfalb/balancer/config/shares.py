"""A worker's share of a node's limits: what the configuration allows in all, divided by those who count apart."""

from __future__ import annotations

from mfalb.balancer.config.models import Config, HttpListener, Pool
from mfalb.balancer.config.radsec_models import RadsecListener
from mfalb.balancer.config.tcp_models import TcpListener

Streamed = HttpListener | TcpListener | RadsecListener


def share_for_worker(config: Config) -> Config:
    """The configuration of one of `config.workers` workers, rounded up.

    Divided is what connections and queues may have, which the kernel deals out evenly. Limits of RADIUS clients are
    not: a NAS that uses one port is one worker's.
    """
    workers = config.workers
    if workers == 1:
        return config
    listeners = tuple(_listener(one, workers) if isinstance(one, Streamed) else one for one in config.listeners)
    pools = {name: _pool(pool, workers) for name, pool in config.pools.items()}
    return config.model_copy(update={"listeners": listeners, "pools": pools})


def _listener(listener: Streamed, workers: int) -> Streamed:
    limits = listener.limits
    names = ("connections", "connections_per_source")
    shares = {name: -(-getattr(limits, name) // workers) for name in names if hasattr(limits, name)}
    return listener.model_copy(update={"limits": limits.model_copy(update=shares)})


def _pool(pool: Pool, workers: int) -> Pool:
    backends = tuple(
        one if one.connections is None else one.model_copy(update={"connections": -(-one.connections // workers)})
        for one in pool.backends
    )
    queue = pool.queue.model_copy(update={"limit": -(-pool.queue.limit // workers)})
    return pool.model_copy(update={"backends": backends, "queue": queue})
