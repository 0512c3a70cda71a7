"""Which pool does a request's host and path lead to?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mfalb.balancer.config.models import Route as RouteConfig
from mfalb.balancer.pools.pool import Pool


@dataclass(frozen=True, slots=True)
class Route:
    """`host` b"" matches every host. `path` has no slash at its end ("" matches all). Both are in lower case."""

    host: bytes
    path: bytes
    pool: Pool


class RouteTable:
    """The routes of a listener: those that name a host before those that do not, longer paths before shorter ones."""

    __slots__ = ("_routes",)

    def __init__(self, routes: Sequence[RouteConfig], pools: Mapping[str, Pool]) -> None:
        table = [
            Route((route.host or "").lower().encode(), route.path.lower().rstrip("/").encode(), pools[route.pool])
            for route in routes
        ]
        self._routes = sorted(table, key=lambda route: (not route.host, -len(route.path)))

    def find(self, host: bytes, path: bytes) -> Pool | None:
        """The pool for a host and a routing path (both in lower case); None when no route leads anywhere.

        A route's path matches whole segments: /pa does not match /party.
        """
        for route in self._routes:
            if (not route.host or route.host == host) and path.startswith(route.path):
                length = len(route.path)
                if length == len(path) or path[length : length + 1] == b"/":
                    return route.pool
        return None
