"""HAProxy as the proxy before the balancer, or the server behind it, that speaks the PROXY protocol."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Program

_CONFIG: Final = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
{links}
"""
_LINK: Final = """
listen {name}
    bind {host}:{port} {bind}
    server balancer {host}:{to} {server}
"""


@dataclass(frozen=True, slots=True)
class Link:
    """One port of HAProxy and where its connections go, with the options of its `bind` and `server` lines."""

    name: str
    to: int
    bind: str = ""
    server: str = ""
    port: int = field(default_factory=free_tcp_port)


def _is_listening(port: int) -> bool:
    with suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
        return True
    return False


def haproxy(run_dir: Path, links: Sequence[Link], ready: Link) -> Program:
    """An HAProxy with these links; `ready` is the one that may be connected to, to see whether it runs."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "haproxy.cfg"
    parts = (
        _LINK.format(name=link.name, host=LOOPBACK, port=link.port, to=link.to, bind=link.bind, server=link.server)
        for link in links
    )
    path.write_text(_CONFIG.format(links="".join(parts)), "utf-8")
    return Program(
        "haproxy",
        ["haproxy", "-db", "-f", str(path)],
        run_dir,
        ready=lambda _: _is_listening(ready.port),
        launch=Launch(grace_s=2.0),
    )
