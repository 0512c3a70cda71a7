"""Do PROXY protocol headers, read or sent, fit what they are for?"""

from __future__ import annotations

from mfalb.balancer.config.draft import Draft
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.radius_models import RadiusListener
from mfalb.balancer.config.radsec_models import RadsecListener
from mfalb.balancer.config.values import quoted


def check_proxy_protocol(draft: Draft, findings: Findings) -> None:
    """Adds errors about pools that cannot send a header, and warnings about whose header is believed."""
    for look in (_pools, _sources):
        look(draft, findings)


def _pools(draft: Draft, findings: Findings) -> None:
    for name, pool in draft.pools.items():
        if pool.send_proxy is not None and name in draft.radius_pools():
            position = draft.document.at_key(("pools", name, "send_proxy"))
            findings.error(
                position, f"send_proxy: pool {quoted(name)} takes RADIUS, which has no such header; remove it"
            )


def _sources(draft: Draft, findings: Findings) -> None:
    for number, listener in draft.listeners.items():
        if isinstance(listener, RadiusListener | RadsecListener) or listener.proxy_protocol is None:
            continue
        for index, network in enumerate(listener.proxy_protocol.from_):
            if network.prefixlen == 0:
                findings.warning(
                    draft.document.at_value(("listeners", number, "proxy_protocol", "from", index)),
                    f"from: with {network} anyone can pose as any client, in logs, limits and X-Forwarded-For; name "
                    "the proxies",
                )
