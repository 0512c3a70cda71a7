"""`mfalb upgrade`: the code of a running balancer exchanged, while everybody is served."""

from __future__ import annotations

from typing import Final

from mfalb.balancer.admin import api_models as api
from mfalb.cli.admin_client import (
    ConfigOption,
    JsonOption,
    SocketOption,
    client,
    duration_text,
    print_json,
    told_by_exit_code,
)

_TIMEOUT_S: Final = 120.0  # the new process loads its code and probes backends first


def upgrade(*, socket: SocketOption = None, config: ConfigOption = None, is_json: JsonOption = False) -> None:
    """Have a new process take over, with the code that is on the disk now; nobody is refused, nothing is lost.

    It is started as the running one was (same command and configuration file, read anew), and gets its sockets, pins,
    RADIUS requests under way, admin states, weights and drains. If it cannot start, the running one serves on, and this
    says why. `workers` and `pins.limit` have to stay what they are. Connections of the former process end with their
    next answer, WebSockets and other tunnels after drain_timeout at the latest.
    """
    with told_by_exit_code("upgrade"):
        done = client(socket, config, timeout_s=_TIMEOUT_S).post(api.Upgraded, "/v1/upgrade", api.UpgradeOrder())
    if is_json:
        print_json(done)
        return
    handed = f"{done.addresses} addresses, {done.upstream_sockets} sockets towards RADIUS servers, {done.drains} drains"
    print(f"Process {done.pid} serves now, with {handed}.")
    print(f"Process {done.former_pid} ends when its connections have ended, in {duration_text(done.drain_s)} at most.")
