"""keepalived with the example's configuration, on one of several hosts that share an address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from programs.namespaces import Network
from programs.process import Launch, Logged, Program

CONF: Final = Path(__file__).parents[2] / "conf" / "keepalived"


@dataclass(frozen=True, slots=True)
class VirtualAddress:
    """An address that several hosts can hold; the one of the highest priority does."""

    address: str
    priority: int


def keepalived(network: Network, host: str, admin_port: int, run_dir: Path, vip: VirtualAddress) -> Program:
    """With the example's instance `first`, with our names and addresses."""
    run_dir.mkdir(parents=True)
    text = (CONF / "keepalived.conf").read_text().partition("vrrp_instance second")[0]
    for old, new in (
        ("    enable_script_security\n", ""),  # the test's directory is not below root's alone
        ("script_user nobody", "script_user root"),
        ("/etc/keepalived/", f"{CONF}/"),
        ("127.0.0.1:9300", f"127.0.0.1:{admin_port}"),
        ("192.0.2.10/24", f"{vip.address}/24"),
        ("priority 120 ", f"priority {vip.priority} "),
    ):
        assert old in text
        text = text.replace(old, new)
    conf = run_dir / "keepalived.conf"
    conf.write_text(text)
    pids = [word for part in ("pid", "vrrp_pid", "checkers_pid") for word in (f"--{part}", str(run_dir / part))]
    command = ["keepalived", "--vrrp", "--dont-fork", "--log-console", "--log-detail", "-f", str(conf), *pids]
    launch = Launch(wrapper=network.inside(host))
    return Program("keepalived", command, run_dir, ready=Logged("BACKUP STATE"), launch=launch)
