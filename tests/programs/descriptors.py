"""What another process has open, as proc(5) tells; what is closed while one looks is left out."""

from __future__ import annotations

from pathlib import Path


def sockets_of(pid: int) -> dict[int, str]:
    """The descriptors that are sockets, and the inode of each."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            kind, _, inode = str(link.readlink()).partition(":[")
        except FileNotFoundError:
            continue
        if kind == "socket":
            found[int(link.name)] = inode.rstrip("]")
    return found
