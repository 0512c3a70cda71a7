"""TLS between two objects in memory."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mfalb.net.live_tls import LiveServer
from mfalb.net.tls import ClientTrust, Pair, ServerFiles

NOON: Final = 1_700_049_600.0  # whole hours since 1970
SECRET: Final = bytes(range(32))


def shake_both_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends, the client's first, when each has said a byte. Raises ssl.SSLError when either side refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name, session=session),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
        if not waiting:
            for end, other in (ends, reversed(ends)):  # with it come the tickets of TLS 1.3
                end.write(b"x")
                other.read(1)
            return ends[0], ends[1]
    raise AssertionError("the handshake does not come to an end")


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    """The client's end of a handshake."""
    return shake_both_hands(server, client, name)[0]


def server(pairs: Sequence[Pair]) -> ssl.SSLContext:
    """The context of an HTTPS listener."""
    return LiveServer("web", ServerFiles(tuple(pairs)), SECRET, NOON).context


def mutual_server(pairs: Sequence[Pair], client_ca: Path) -> ssl.SSLContext:
    """The context of a RadSec listener."""
    files = ServerFiles(tuple(pairs), ClientTrust(client_ca), alpn=(), has_sessions=False)
    return LiveServer("radsec", files, SECRET, NOON).context
