"""The phones of the reference cloud, held by a test."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from programs.ports import LOOPBACK
from programs.process import wait_until

_WAIT_S: Final = 30.0


def fetch(url: str, data: bytes | None = None, kind: str = "application/x-www-form-urlencoded") -> str:
    """The body of an answer. Raises urllib's errors for any that is none of 2xx and 3xx."""
    request = Request(url, data=data, headers={"Content-Type": kind})  # noqa: S310 - http, to a loopback port
    with urlopen(request, timeout=_WAIT_S) as response:  # noqa: S310 - the same
        body: str = response.read().decode()
    return body


class Handsets:
    """All phones, at the port of the cloud's pages."""

    def __init__(self, port: int) -> None:
        self.url: Final = f"http://{LOOPBACK}:{port}"

    def ringing(self, user: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(fetch(f"{self.url}/handset/{quote(user)}.json"))["ringing"]
        return found

    def wait_for_ring(self, user: str, count: int = 1) -> dict[str, Any]:
        """What rings, when it does."""
        wait_until(lambda: len(self.ringing(user)) >= count, f"{user}'s phone to ring", deadline_s=_WAIT_S)
        return self.ringing(user)[0]

    def answer(self, user: str, action: str, typed: str = "") -> None:
        """Wait for the ring, then do what the page's buttons do."""
        key = self.wait_for_ring(user)["key"]
        form = urlencode({"action": action, "typed": typed}).encode()
        fetch(f"{self.url}/handset/{quote(user)}/answers/{key}", form)

    def leave_ringing(self, user: str) -> None:
        """From now on this phone is not answered by itself."""
        fetch(f"{self.url}/handset/{quote(user)}/answering", urlencode({"mode": "manual"}).encode())

    def counters(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = json.loads(fetch(f"{self.url}/counters.json"))
        return found

    def code(self, user: str) -> str:
        """The newest code that a user was texted."""
        texts = json.loads(fetch(f"{self.url}/outbox.json"))
        return next(str(text["otp"]) for text in texts if text["user"] == user)


def set_faults(control_port: int, **switches: float | bool) -> None:
    """Set fault switches at a service's control endpoint."""
    fetch(f"http://{LOOPBACK}:{control_port}/faults", json.dumps(switches).encode(), "application/json")
