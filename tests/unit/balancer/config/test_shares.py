"""A worker's share: what connections may have is divided, rounded up; what RADIUS clients may is not."""

from __future__ import annotations

import pytest

from mfalb.balancer.config.models import Backend, Config, Pool
from mfalb.balancer.config.shares import share_for_worker
from mfalb.balancer.config.tcp_models import TcpListener
from mfalb.balancer.config.values import Address


def config(workers: int) -> Config:
    tcp = TcpListener.model_validate(
        {
            "name": "tcp",
            "protocol": "tcp",
            "bind": [Address("127.0.0.1", 1)],
            "routes": [{"pool": "web"}],
            "limits": {"connections": 10, "connections_per_source": 3},
        }
    )
    backends = (
        Backend(name="b1", address=Address("127.0.0.1", 2), connections=5),
        Backend(name="b2", address=Address("127.0.0.1", 3)),
    )
    pool = Pool.model_validate({"backends": backends, "queue": {"limit": 7}})
    return Config.model_construct(workers=workers, listeners=(tcp,), pools={"web": pool})


@pytest.mark.parametrize(("workers", "shares"), [(1, (10, 3, 5, 7)), (2, (5, 2, 3, 4)), (4, (3, 1, 2, 2))])
def test_limits_of_connections_are_divided_and_rounded_up(workers: int, shares: tuple[int, ...]) -> None:
    share = share_for_worker(config(workers))
    (listener,), pool = share.listeners, share.pools["web"]
    assert isinstance(listener, TcpListener)
    limits = listener.limits
    first, second = pool.backends
    assert (limits.connections, limits.connections_per_source, first.connections, pool.queue.limit) == shares
    assert second.connections is None, "no limit has no share"


def test_the_configuration_itself_stays_as_it_was() -> None:
    whole = config(4)
    share_for_worker(whole)
    assert whole.pools["web"].queue.limit == 7
