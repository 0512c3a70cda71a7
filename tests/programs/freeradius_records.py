"""FreeRADIUS servers that let everybody in and keep records, on two ports: what it is for accounting to follow."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from programs.freeradius import COMMON, MESSAGE_AUTHENTICATOR, FreeRadius, write_config
from programs.ports import LOOPBACK, free_udp_port

# Class is the server's name and the user's: whoever returns it says who let the session in.
_RECORD_SERVER: Final = """
modules {{
    expr {{
    }}
    linelog record {{
        filename = {run_dir}/records
        format = "%{{User-Name}}|%{{Acct-Status-Type}}|%{{pairs:request:}}"
    }}
}}
server records {{
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {port}
    }}
    listen {{
        type = acct
        ipaddr = 127.0.0.1
        port = {accounting_port}
    }}
    authorize {{
        update control {{
            Auth-Type := Accept
        }}
        update reply {{
            Class := "{name}/%{{User-Name}}"
        }}
    }}
    accounting {{
        record
        {signing}
    }}
}}
"""
_SIGNING: Final = """update reply {
            Message-Authenticator := 0x00
        }"""


class RecordServer(FreeRadius):
    """Accepts everybody and answers every record once it is written down."""

    def __init__(self, name: str, run_dir: Path, ports: tuple[int, int], secret: str) -> None:
        super().__init__(name, run_dir, ports[0], secret)
        self.accounting_port: Final = ports[1]
        self.accounting_address: Final = f"{LOOPBACK}:{ports[1]}"

    def records(self, user: str = "") -> list[str]:
        """What was recorded (of a user): each with all attributes in order, less the Message-Authenticator."""
        path = self.run_dir / "records"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        found = [line.split("|", 2) for line in lines]
        return [
            MESSAGE_AUTHENTICATOR.sub("", attributes).removeprefix(", ")
            for name, _, attributes in found
            if user in ("", name)
        ]


def record_server(name: str, parent_dir: Path, secret: str, *, is_signing: bool = False) -> RecordServer:
    """A server that, if `is_signing`, puts a Message-Authenticator into the answers to records."""
    run_dir, ports = parent_dir / name, (free_udp_port(), free_udp_port())
    values = {"name": name, "run_dir": run_dir, "secret": secret, "port": ports[0], "accounting_port": ports[1]}
    site = _RECORD_SERVER.format(**values, signing=_SIGNING if is_signing else "")
    write_config(run_dir, COMMON.format(**values) + site)
    return RecordServer(name, run_dir, ports, secret)
