"""A balancer whose configuration a test changes again and again, and who serves a request there."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from programs.balancer import Balancer
from programs.http_backend import HttpBackend
from programs.http_pool import Front
from programs.process import wait_until


@dataclass(frozen=True, slots=True)
class Site:
    """Two backends and a balancer whose configuration changes."""

    balancer: Balancer
    front: Front
    backends: tuple[HttpBackend, ...]
    config: dict[str, Any]

    def reload(self, config: dict[str, Any], word: str = "reloaded") -> str:
        """Write it, send SIGHUP, and wait for the log to say so; returns that line."""
        before = self.lines(word)
        self.balancer.write_config(self.balancer.completed(config))
        self.balancer.hang_up()
        wait_until(lambda: len(self.lines(word)) > len(before), f"{word!r} in the log", deadline_s=30)
        return self.lines(word)[-1]

    def lines(self, word: str) -> list[str]:
        return [line for line in self.balancer.log().splitlines() if f" {word}" in line]


def served_by(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/echo")
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200
    name: str = json.loads(body)["name"]
    return name
