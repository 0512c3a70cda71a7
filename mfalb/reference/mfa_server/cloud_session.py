"""How an MFA Server connects to the cloud: with a certificate of its own where the settings have one."""

from __future__ import annotations

import aiohttp

from mfalb.reference.config.values import ClientTls
from mfalb.reference.tls import client_context


def cloud_session(tls: ClientTls | None) -> aiohttp.ClientSession:
    """A session for all calls to the cloud. Without `tls` the system's authorities verify an https cloud."""
    if tls is None:
        return aiohttp.ClientSession()
    context = client_context(tls.ca, tls.cert, tls.key)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
