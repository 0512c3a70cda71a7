"""RADIUS before a privacyIDEA node: Debian's FreeRADIUS with rlm_rest, and no code but its own configuration language.

privacyIDEA's own plugin is Perl, and neither on PyPI nor in Debian. This does what it does: a password goes to
/validate/check, a transaction_id that comes back becomes the State of an Access-Challenge, and what brings that State
brings the transaction_id to the same node. rlm_rest encodes what stands in a form by itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from programs.freeradius import COMMON, FreeRadius, write_config
from programs.ports import free_udp_port
from programs.privacyidea import PrivacyIdea

_SITE: Final = """
modules {{
    expr {{
    }}
    always handled {{
        rcode = handled
    }}
    always ok {{
        rcode = ok
    }}
    always reject {{
        rcode = reject
    }}
    rest {{
        connect_uri = "http://{node}"
        connect_timeout = 20
        pool {{
            start = 0
            min = 0
            max = 4
            spare = 2
        }}
    }}
}}
server otp {{
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {port}
    }}
    authorize {{
        update request {{
            &Tmp-String-1 := "%{{string:State}}"
        }}
        update control {{
            &Tmp-String-0 := "%{{rest:POST http://{node}/validate/check \
user=%{{User-Name}}&pass=%{{User-Password}}&state=%{{Tmp-String-1}}}}"
        }}
        if (&control:Tmp-String-0 =~ /"value": *true/) {{
            update control {{
                &Auth-Type := Accept
            }}
            ok
        }}
        elsif (&control:Tmp-String-0 =~ /"transaction_id": *"([0-9]+)"/) {{
            update reply {{
                &State := "%{{1}}"
                &Reply-Message := "Enter the code"
            }}
            update control {{
                &Response-Packet-Type := Access-Challenge
            }}
            handled
        }}
        else {{
            reject
        }}
    }}
}}
"""


def radius_before(node: PrivacyIdea, name: str, parent_dir: Path, secret: str) -> FreeRadius:
    """A FreeRADIUS that asks this node."""
    run_dir, port = parent_dir / name, free_udp_port()
    common = COMMON.format(name=name, run_dir=run_dir, secret=secret)
    write_config(run_dir, common + _SITE.format(node=node.address, port=port))
    return FreeRadius(name, run_dir, port, secret)
