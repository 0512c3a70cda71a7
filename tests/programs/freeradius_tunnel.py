"""FreeRADIUS as the far end of EAP tunnels that knows no user: it asks somebody else, by plain RADIUS.

PEAP's inner EAP-MSCHAPv2 goes on as MS-CHAPv2 attributes, which servers without EAP understand, and so does what
EAP-TTLS brings. This is how a RADIUS server is put before MFA Servers, which speak no EAP of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from programs.certificates import CertificateFiles
from programs.freeradius import COMMON, FreeRadius, write_config
from programs.ports import free_udp_port

# No status_check: whether the server lives is the balancer's to find out. TLS 1.2 as in freeradius.py.
_TUNNEL_END: Final = """
proxy server {{
    default_fallback = no
}}
home_server asked {{
    type = auth
    ipaddr = 127.0.0.1
    port = {asked_port}
    secret = "{asked_secret}"
    response_window = 30
    status_check = none
}}
home_server_pool asked {{
    type = fail-over
    home_server = asked
}}
realm asked {{
    auth_pool = asked
    nostrip
}}
modules {{
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
            proxy_tunneled_request_as_eap = no
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
    post-proxy {{
        eap
    }}
}}
server inner {{
    authorize {{
        update control {{
            Proxy-To-Realm := "asked"
        }}
        mschap
        eap {{
            ok = return
        }}
    }}
    authenticate {{
        Auth-Type MS-CHAP {{
            mschap
        }}
        eap
    }}
    post-proxy {{
        eap
    }}
}}
"""


def tunnel_end(
    name: str, parent_dir: Path, secret: str, certificate: CertificateFiles, asked: tuple[int, str]
) -> FreeRadius:
    """`asked` is the port and the secret of whom it asks."""
    run_dir, port = parent_dir / name, free_udp_port()
    values = {"name": name, "run_dir": run_dir, "secret": secret, "port": port}
    values |= {"asked_port": asked[0], "asked_secret": asked[1]}
    values |= {"ca": certificate.ca, "cert": certificate.cert, "key": certificate.key}
    write_config(run_dir, COMMON.format(**values) + _TUNNEL_END.format(**values))
    return FreeRadius(name, run_dir, port, secret)
