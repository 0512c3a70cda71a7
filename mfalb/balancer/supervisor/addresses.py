"""Where RADIUS backends are whose addresses are host names."""

from __future__ import annotations

import asyncio
import socket

from mfalb.balancer.config.models import Config
from mfalb.balancer.config.radius_models import RadiusListener
from mfalb.balancer.config.radsec_models import RadsecListener
from mfalb.balancer.supervisor.sockets import CannotBind
from mfalb.balancer.worker import Addresses


async def found_addresses(config: Config) -> Addresses:
    """The addresses of RADIUS backends, looked up once: the data path may not wait for a name server.

    Over TLS each connection looks its host up, and the certificate is checked against the name. Raises CannotBind.
    """
    loop, found = asyncio.get_running_loop(), []
    radius = [one for one in config.listeners if isinstance(one, RadiusListener | RadsecListener)]
    for name in dict.fromkeys(name for listener in radius for name in listener.pools.values()):
        pool = config.pools[name]
        for backend in pool.backends if pool.upstream_tls is None else ():
            host, port = backend.address
            try:
                answers = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            except OSError as error:
                raise CannotBind(f"pool {name}: backend {backend.name}: cannot find {host}") from error
            found.append((name, backend.name, str(answers[0][4][0]), port))
    return tuple(found)
