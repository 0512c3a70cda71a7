"""RADIUS listeners: who may ask, and how much."""

from __future__ import annotations

from enum import Enum
from typing import Literal

from pydantic import Field

from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import Address, Count, Flag, Name, NetworkValue, Seconds, Secret


class RefusalForm(Enum):
    """How a sign-in that cannot go on is refused: with a clear end, or with nothing."""

    REJECT = "reject"
    SILENCE = "silence"


class RadiusClient(Table):
    """A NAS (or a network of them), the secret it shares with the balancer, and what is asked of its packets.

    `limit_proxy_state` refuses a Proxy-State without a Message-Authenticator; `send_message_authenticator` is false
    only for devices that choke on one. `rate_limit` bounds the sign-ins it may begin.
    """

    name: Name
    network: NetworkValue
    secret: Secret
    require_message_authenticator: Flag = True
    limit_proxy_state: Flag = True
    send_message_authenticator: Flag = True
    rate_limit: Count | None = Field(default=None, ge=1)


class RadiusUserLimit(Table):
    """At most `sign_ins` begun for one user within `window_s`: whoever has a password cannot ring a phone all night."""

    sign_ins: Count = Field(ge=1)
    window_s: Seconds = 60.0
    answer: RefusalForm = RefusalForm.REJECT


class RadiusListener(Table):
    """A UDP address where RADIUS clients arrive."""

    name: Name
    protocol: Literal["radius"]
    bind: tuple[Address, ...] = Field(min_length=1)
    clients: tuple[RadiusClient, ...] = Field(min_length=1)
    pool: Name
    in_flight_limit: Count = Field(default=20_000, ge=1)
    answer_cache_s: Seconds = 15.0
    proxy_state_limit: Count = Field(default=10, ge=1, le=255)
    user_limit: RadiusUserLimit | None = None
