"""The Unix socket of the admin API: bound with its mode, its group, and in the place of one that nobody serves."""

from __future__ import annotations

import grp
import logging
import os
import socket
import stat
from pathlib import Path
from typing import Final

from mfalb.balancer.config.models import Admin
from mfalb.balancer.supervisor.sockets import CannotBind

DEFAULT_SOCKET: Final = Path("/run/mfalb/admin.sock")
_MODE: Final = 0o660

_log = logging.getLogger("mfalb.supervisor.admin_socket")


AdminSocket = tuple[Path, socket.socket]


def bind_admin(config: Admin, default: Path = DEFAULT_SOCKET, handed: AdminSocket | None = None) -> AdminSocket | None:
    """The bound socket and its path; None where none is asked for. Raises CannotBind.

    The default is nobody's wish: when it cannot be had (another balancer of this machine serves it), a warning says so.
    `handed` is a predecessor's, which is used when it is where ours should be.
    """
    if handed is not None and handed[0] == (config.socket or default):
        return handed
    if config.socket is not None:
        return config.socket, _bound(config.socket, config.socket_group)
    if not default.parent.is_dir():
        return None
    try:
        return default, _bound(default, config.socket_group)
    except CannotBind as error:
        _log.warning("no admin socket", extra={"reason": str(error)})
        return None


def _bound(path: Path, group: str | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_room(path)
        before = os.umask(0o777 & ~_MODE)  # so that there is no moment in which others may connect
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        if group is not None:
            _give(path, group)
        sock.setblocking(False)  # whoever serves it listens: until then verbs are refused, and need not wait
    except OSError as error:
        sock.close()
        raise CannotBind(f"admin: cannot bind {path}: {error.strerror or error}") from error
    except CannotBind:
        sock.close()
        raise
    return sock


def _give(path: Path, group: str) -> None:
    """Have its members use the socket. Raises CannotBind with nothing left there."""
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except KeyError:
        path.unlink(missing_ok=True)
        raise CannotBind(f"admin: socket_group: there is no group {group}") from None
    except OSError as error:  # only root gives to groups that it is no member of; a system call filter may forbid it
        path.unlink(missing_ok=True)
        raise CannotBind(
            f"admin: socket_group: cannot give {path} to the group {group}: {error.strerror or error}"
        ) from error


def _make_room(path: Path) -> None:
    """Remove what a balancer that was killed has left. Raises CannotBind when the path is somebody's."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise CannotBind(f"admin: cannot bind {path}: there is something that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise CannotBind(f"admin: cannot bind {path}: another balancer serves it")
