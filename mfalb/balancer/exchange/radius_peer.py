"""Who a RADIUS message comes from: the peers that share a secret with us, and what is asked of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from mfalb.wire.radius import SharedSecret


@dataclass(slots=True, eq=False)
class RadiusPeer:
    """A RADIUS client or backend: its configured name, the shared secret, and what is asked of its packets.

    Equal secrets are one object (`Secrets.of`), so that "the same secret" is one comparison of pointers on the hot
    path. `proxy_state` is the Proxy-State attribute, in bytes, that we add to what a backend gets: by it we know what
    comes back to us; b"" for none. `drops` counts what was discarded of this peer's, by reason: an operator finds the
    device that cannot sign.
    """

    name: str
    secret: SharedSecret
    requires_message_authenticator: bool
    limits_proxy_state: bool = False
    is_signed_to: bool = True  # False: a client that chokes on a Message-Authenticator in answers
    proxy_state: bytes = b""
    drops: Counter[str] = field(default_factory=Counter)


class Secrets:
    """Shared secrets by value: each is made once."""

    def __init__(self) -> None:
        self._made: dict[bytes, SharedSecret] = {}

    def of(self, value: bytes) -> SharedSecret:
        """The one object for this secret."""
        return self._made.setdefault(value, SharedSecret(value))


class ReplyPath(Protocol):
    """Where answers go out: a bound UDP socket or a client's TLS connection."""

    def send(self, datagram: bytes, peer: bytes) -> None:
        """Queue one answer for that peer."""

    def host(self, peer: bytes) -> str:
        """The address that this peer comes from, for people."""

    def discarded(self, reason: str) -> None:
        """Something that came this way was discarded; `reason` is a metric label."""


@dataclass(slots=True, eq=False)
class RadiusSource:
    """One socket of a client, as a listener sees it. Made once and kept: a datagram costs one look-up.

    `key` is unique for the client's socket and the socket of ours that it reached (RFC 5080 section 2.2.2: a duplicate
    has the same source and destination).
    """

    client: RadiusPeer
    key: bytes
    path: Any  # a ReplyPath
    peer: bytes


NO_PEER: Final = b""  # on a connection there is one peer only
