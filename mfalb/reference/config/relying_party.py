"""Settings of the sample relying party."""

from __future__ import annotations

from dataclasses import dataclass

from mfalb.reference.config.values import Endpoint


@dataclass(frozen=True, slots=True)
class RelyingPartySettings:
    """An application whose users sign in at the AD FS farm.

    `issuer` is the farm's (balanced) address, verified with the authority in `issuer_ca` (None: the system's);
    `redirect_uri` is where this application takes tokens, as its users see it.
    """

    name: str
    endpoint: Endpoint
    client_id: str
    redirect_uri: str
    issuer: str
    issuer_ca: str | None = None
    control: Endpoint | None = None
