"""FreeRADIUS servers as MFA backends: the stock `challenge` site as OTP server, an EAP server, an attribute server.

All answer Status-Server, both log each completed sign-in once (`Login OK`), which is how `sign_ins` counts. The OTP
server's sessions live in its own process: the second half of a sign-in fails at any other server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from programs.certificates import CertificateFiles
from programs.ports import LOOPBACK, free_udp_port
from programs.process import Logged, Program, ProgramFailed

STOCK_CONFIG: Final = Path("/etc/freeradius/3.0")
OTP_FIRST_PASSWORD: Final = "hello"  # what the stock challenge site accepts as first factor
MESSAGE_AUTHENTICATOR: Final = re.compile(r"(, )?Message-Authenticator = 0x[0-9a-f]{32}")
_READY: Final = Logged("Ready to process requests")

COMMON: Final = """
name = {name}
libdir = /usr/lib/freeradius
raddbdir = {run_dir}
run_dir = {run_dir}
logdir = {run_dir}
pidfile = {run_dir}/freeradius.pid
max_requests = 16384
log {{
    destination = stdout
    auth = yes
}}
security {{
    status_server = yes
    reject_delay = 0
}}
client balancer {{
    ipaddr = 127.0.0.1
    secret = "{secret}"
    require_message_authenticator = yes
}}
thread pool {{
    start_servers = 2
    max_servers = 4
}}
"""

_OTP_MODULES: Final = """
modules {{
    $INCLUDE {stock}/mods-available/pap
    $INCLUDE {stock}/mods-available/totp
    $INCLUDE {stock}/mods-available/always
    $INCLUDE {stock}/mods-available/expr
}}
policy {{
    $INCLUDE {stock}/policy.d/control
}}
$INCLUDE {run_dir}/challenge
"""

# TLS 1.2 as in Debian's own eap module: FreeRADIUS calls its TLS 1.3 support for EAP experimental.
_EAP_SERVER: Final = """
modules {{
    pap {{
    }}
    mschap {{
    }}
    eap {{
        default_eap_type = peap
        timer_expire = 60
        max_sessions = 4096
        tls-config common {{
            private_key_file = {key}
            certificate_file = {cert}
            ca_file = {ca}
            tls_min_version = "1.2"
            tls_max_version = "1.2"
            ecdh_curve = "prime256v1"
        }}
        peap {{
            tls = common
            default_eap_type = mschapv2
            virtual_server = inner
        }}
        ttls {{
            tls = common
            default_eap_type = mschapv2
            virtual_server = inner
        }}
        mschapv2 {{
        }}
    }}
}}
server outer {{
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {port}
    }}
    authorize {{
        eap {{
            ok = return
        }}
    }}
    authenticate {{
        eap
    }}
}}
server inner {{
    authorize {{
        if (&User-Name == "{user}") {{
            update control {{
                Cleartext-Password := "{password}"
            }}
        }}
        mschap
        eap {{
            ok = return
        }}
        pap
    }}
    authenticate {{
        Auth-Type PAP {{
            pap
        }}
        Auth-Type MS-CHAP {{
            mschap
        }}
        eap
    }}
}}
"""

# A line for each request: who, the password and CHAP-Password as hexadecimal digits, and all attributes in order.
_ATTRIBUTE_SERVER: Final = """
modules {{
    chap {{
    }}
    expr {{
    }}
    always reject {{
        rcode = reject
    }}
    always handled {{
        rcode = handled
    }}
    linelog seen {{
        filename = {run_dir}/seen
        format = "%{{User-Name}}|%{{hex:User-Password}}|%{{pairs:request:}}"
    }}
}}
server attributes {{
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {port}
    }}
    authorize {{
        seen
        update control {{
            Auth-Type := Accept
        }}
        if (&CHAP-Password) {{
            update control {{
                Cleartext-Password := "{password}"
                Auth-Type := CHAP
            }}
        }}
        switch &NAS-Identifier {{
{cases}
        }}
    }}
    authenticate {{
        Auth-Type CHAP {{
            chap
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class TestUser:
    """The one user an EAP server knows."""

    __test__ = False  # not a test class, whatever pytest makes of its name

    name: str = "alice"
    password: str = "correct-horse"


class FreeRadius(Program):
    """A running FreeRADIUS server; `port` and `secret` are what the balancer needs to know."""

    def __init__(self, name: str, run_dir: Path, port: int, secret: str) -> None:
        super().__init__(name, ["freeradius", "-f", "-P", "-l", "stdout", "-d", str(run_dir)], run_dir, ready=_READY)
        self.port: Final = port
        self.secret: Final = secret

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def sign_ins(self) -> int:
        """How many sign-ins this server completed, by its own log; EAP's inner half is not counted again."""
        return sum("Login OK" in line and "via TLS tunnel" not in line for line in self.log().splitlines())

    def refusals(self) -> int:
        """How many sign-ins this server refused, by its own log."""
        return sum("Login incorrect" in line and "via TLS tunnel" not in line for line in self.log().splitlines())


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the server understood it: the revealed password, and all attributes, as FreeRADIUS prints them.

    The Message-Authenticator is left out: it is another on each hop.
    """

    password: bytes
    attributes: str


def write_config(run_dir: Path, text: str) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "radiusd.conf"
    path.touch(mode=0o600)
    path.write_text(text, "utf-8")


def _stock_challenge_site(port: int) -> str:
    path = STOCK_CONFIG / "sites-available" / "challenge"
    try:
        site = path.read_text("utf-8")
    except OSError as error:
        raise ProgramFailed(f"{error}: these tests need root or membership in the group freerad") from error
    site, ports = re.subn(r"port = 2000\b", f"port = {port}", site)
    site, addresses = re.subn(r"ipaddr = \*", f"ipaddr = {LOOPBACK}", site)
    if (ports, addresses) != (1, 1):
        raise ProgramFailed(f"{path} is not the site we know: its listen section has another shape")
    return site


def otp_server(name: str, parent_dir: Path, secret: str) -> FreeRadius:
    """The stock `challenge` site: password `hello` begins a sign-in, the OTP in the Reply-Message completes it."""
    run_dir, port = parent_dir / name, free_udp_port()
    values = {"name": name, "run_dir": run_dir, "secret": secret, "stock": STOCK_CONFIG}
    write_config(run_dir, COMMON.format(**values) + _OTP_MODULES.format(**values))
    (run_dir / "challenge").write_text(_stock_challenge_site(port), "utf-8")
    return FreeRadius(name, run_dir, port, secret)


def eap_server(
    name: str, parent_dir: Path, secret: str, certificate: CertificateFiles, user: TestUser | None = None
) -> FreeRadius:
    """A server for PEAP-MSCHAPv2 and TTLS-PAP that knows one user and nothing without EAP."""
    run_dir, port, known = parent_dir / name, free_udp_port(), user or TestUser()
    values = {"name": name, "run_dir": run_dir, "secret": secret, "port": port}
    values |= {"user": known.name, "password": known.password}
    values |= {"ca": certificate.ca, "cert": certificate.cert, "key": certificate.key}
    write_config(run_dir, COMMON.format(**values) + _EAP_SERVER.format(**values))
    return FreeRadius(name, run_dir, port, secret)


class AttributeServer(FreeRadius):
    """Accepts everybody, says what a case told it to say, and keeps what it was asked."""

    def seen(self, user: str) -> Seen:
        """The one request of this user. Raises ValueError when there was none, or more than one."""
        lines = (self.run_dir / "seen").read_text("utf-8").splitlines()
        (line,) = [line for line in lines if line.startswith(f"{user}|")]
        _, password, attributes = line.split("|", 2)
        return Seen(bytes.fromhex(password), MESSAGE_AUTHENTICATOR.sub("", attributes))


def attribute_server(
    name: str, parent_dir: Path, secret: str, cases: Mapping[str, str], user: TestUser | None = None
) -> AttributeServer:
    """A server that meets a request with the unlang of the case that its NAS-Identifier names.

    Users of CHAP need the password of `user`; all others are accepted with any.
    """
    run_dir, port, known = parent_dir / name, free_udp_port(), user or TestUser()
    written = "\n".join(f'case "{case}" {{\n{unlang}\n}}' for case, unlang in cases.items())
    values = {"name": name, "run_dir": run_dir, "secret": secret, "port": port, "password": known.password}
    write_config(run_dir, COMMON.format(**values) + _ATTRIBUTE_SERVER.format(cases=written, **values))
    return AttributeServer(name, run_dir, port, secret)
