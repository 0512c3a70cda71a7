"""What only RADIUS has in the configuration: who may ask, for what and how much, and which NAS is meant."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, Literal

from pydantic import Field

from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import (
    Address,
    Count,
    Flag,
    IpAddressValue,
    Name,
    NetworkValue,
    Seconds,
    Secret,
)

_ATTRIBUTE_LIMIT: Final = 253  # bytes of value that an attribute has room for (RFC 2865 section 5)


class RefusalForm(Enum):
    """How a sign-in that cannot go on is refused: with a clear end, or with nothing."""

    REJECT = "reject"
    SILENCE = "silence"


class ProxyStateUse(Enum):
    """To which backends a listener adds a Proxy-State, by which it knows what comes back to it.

    AUTO: to those that may be clients, too, as their addresses are in a client's network.
    """

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class ServiceKind(Enum):
    """What a RADIUS listener is for; each has a port of its own: 1812, 1813, 3799."""

    AUTHENTICATION = "authentication"
    ACCOUNTING = "accounting"
    DYNAMIC_AUTHORIZATION = "dynamic_authorization"


class RadiusClientRules(Table):
    """What a client is called, and what is asked of its packets.

    `limit_proxy_state` refuses a Proxy-State without a Message-Authenticator; `send_message_authenticator` is false
    only for devices that choke on one. `rate_limit` bounds the sign-ins it may begin.
    """

    name: Name
    require_message_authenticator: Flag = True
    limit_proxy_state: Flag = True
    send_message_authenticator: Flag = True
    rate_limit: Count | None = Field(default=None, ge=1)


class RadiusClient(RadiusClientRules):
    """A NAS (or a network of them) and the secret it shares with the balancer."""

    network: NetworkValue
    secret: Secret


class RadiusUserLimit(Table):
    """At most `sign_ins` begun for one user within `window_s`: whoever has a password cannot ring a phone all night."""

    sign_ins: Count = Field(ge=1)
    window_s: Seconds = 60.0
    answer: RefusalForm = RefusalForm.REJECT


class RadiusWork(Table):
    """What every RADIUS listener does with the work that arrives, whatever transport brought it.

    `follows` is for dynamic authorization only: the pool of the authentication servers that ask here, after
    whose backends the `clients` are named.
    """

    pool: Name
    service: ServiceKind = ServiceKind.AUTHENTICATION
    follows: Name | None = None
    in_flight_limit: Count = Field(default=20_000, ge=1)
    answer_cache_s: Seconds = 15.0
    answer_cache_limit: Count = Field(default=100_000, ge=1)
    proxy_state_limit: Count = Field(default=10, ge=1, le=255)
    add_proxy_state: ProxyStateUse = ProxyStateUse.AUTO
    user_limit: RadiusUserLimit | None = None

    @property
    def pools(self) -> dict[ServiceKind, str]:
        """The pool of each service, the listener's own service first."""
        return {self.service: self.pool}


class RadiusListener(RadiusWork):
    """A UDP address where RADIUS clients arrive."""

    name: Name
    protocol: Literal["radius"]
    bind: tuple[Address, ...] = Field(min_length=1)
    clients: tuple[RadiusClient, ...] = Field(min_length=1)


class Nas(Table):
    """What a NAS is called in requests about its sessions: NAS-IP-Address, NAS-IPv6-Address, NAS-Identifier.

    Without `addresses` it is known by the host of its backend's own address.
    """

    identifiers: tuple[Annotated[str, Field(min_length=1, max_length=_ATTRIBUTE_LIMIT)], ...] = ()
    addresses: tuple[IpAddressValue, ...] | None = None


class RadiusSessionAffinity(Table):
    """Sends the accounting of a session to the server that let it in, for `lifetime_s` after its Access-Accept.

    `follows` is the pool of the authentication servers; servers are the same when their names are.
    """

    type: Literal["radius_session"]
    follows: Name
    lifetime_s: Seconds = 86_400.0
