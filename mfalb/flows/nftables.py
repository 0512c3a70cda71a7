"""A matrix as the rules of a Linux router: everything else is dropped, and everything is counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from mfalb.flows.values import Flow

TABLE: Final = "mfalb"
_COMMENT_LIMIT: Final = 120  # the kernel takes 128 bytes with its end
_NOT_SHOWN: Final = re.compile(r"[^A-Za-z0-9 .,:;/()@_-]")
_HEAD: Final = f"""\
#!/usr/sbin/nft -f
# What `mfalb check --flows` found necessary. Loading it again replaces it; other tables stay as they are.
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct state invalid counter drop comment "invalid"
"""
_FOOT: Final = """\
        counter comment "dropped"
    }
}
"""


def ruleset(flows: Sequence[Flow]) -> str:
    """What `nft -f` takes. Raises ValueError that names all hosts without an address: a rule has to have one."""
    hosts = (host for flow in flows for host in (*flow.sources, flow.destination))
    unknown = [host for host in dict.fromkeys(hosts) if _network(host) is None]
    if unknown:
        raise ValueError(
            f"no address is known for {', '.join(unknown)}; give a hosts file that has them with --hosts, or write "
            "ADDRESS=FILE for the host of a service"
        )
    return _HEAD + "".join(f"        {_rule(flow)}\n" for flow in flows) + _FOOT


def _rule(flow: Flow) -> str:
    destination = ip_network(flow.destination)
    family = "ip" if destination.version == 4 else "ip6"  # noqa: PLR2004 - IPv4
    words = [f"{family} saddr {_set([ip_network(source) for source in flow.sources])}"] if flow.sources else []
    words.append(f"{family} daddr {_set([destination])}")
    words.append(f'{flow.transport.value} dport {flow.port} ct state new counter accept comment "{_shown(flow)}"')
    return " ".join(words)


def _set(networks: Sequence[IPv4Network | IPv6Network]) -> str:
    texts = [str(one.network_address) if one.num_addresses == 1 else str(one) for one in networks]
    return texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}"


def _shown(flow: Flow) -> str:
    """Settings may hold anything; a comment holds what cannot end it."""
    return _NOT_SHOWN.sub("_", "; ".join(flow.purposes))[:_COMMENT_LIMIT]


def _network(host: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(host)
    except ValueError:
        return None
