"""Settings of an MFA Server."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from mfalb.reference.config.ldap import LdapSettings
from mfalb.reference.config.values import Account, ClientTls, Endpoint, StateKind, User, check_networks

CACHE_LIMIT_S: Final = 86_400.0
RPC_PORT: Final = 4443  # static, and the same on all servers


class CacheType(Enum):
    """What makes two sign-ins the same for a caching rule."""

    USER = "user"
    USER_AND_CLIENT = "user_and_client"  # the RADIUS client's address as well


@dataclass(frozen=True, slots=True)
class CachingRule:
    """For how long who has passed passes again. `auth_type` (`radius`) and `application` narrow it; None is any."""

    type: CacheType
    seconds: float
    auth_type: str | None = None
    application: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a time that cannot be meant."""
        if not 0 < self.seconds <= CACHE_LIMIT_S:
            raise ValueError(f"seconds are more than 0 and at most {CACHE_LIMIT_S}")


class RadiusProtocol(Enum):
    """How a RADIUS client may prove the password."""

    PAP = "pap"
    MSCHAPV2 = "mschapv2"


@dataclass(frozen=True, slots=True)
class RadiusSettings:
    """The RADIUS side of an MFA Server: whom it answers, with which secret, and what it takes."""

    endpoint: Endpoint
    client_network: str
    secret: str = field(repr=False)
    state: StateKind = StateKind.UNIQUE
    requires_message_authenticator: bool = True
    application: str = "RADIUS"
    protocols: tuple[RadiusProtocol, ...] = (RadiusProtocol.PAP, RadiusProtocol.MSCHAPV2)
    caching: tuple[CachingRule, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError here, not at the first datagram."""
        check_networks("client_network", (self.client_network,))


class ServerKind(Enum):
    """Where a server's users come from. All servers of a group are of one kind."""

    DOMAIN_JOINED = "domain_joined"
    STANDALONE = "standalone"


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """A server's place in a replication group.

    `data` is the file of its users, `rpc` where it serves its peers (with `cert` and `key`; the certificate's common
    name is the server's name), `ca` whose certificates peers have. `rpc_address` is how peers reach it, host:port; else
    it is that of `rpc`. `kept_changes` is how far back a slave can be and still need no snapshot.
    """

    name: str
    activation_code: str = field(repr=False)
    data: str
    rpc: Endpoint = field(metadata={"defaults": {"port": RPC_PORT}})
    ca: str
    rpc_address: str | None = None
    kind: ServerKind = ServerKind.DOMAIN_JOINED
    kept_changes: int = 10_000
    poll_s: float = 5.0

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot work."""
        if self.rpc.cert is None or self.rpc.key is None:
            raise ValueError("rpc: replication needs a certificate (cert, key)")
        if self.kept_changes < 1 or self.poll_s <= 0:
            raise ValueError("kept_changes and poll_s are more than nothing")


@dataclass(frozen=True, slots=True)
class CallerCertificates:
    """Client certificates that stand for the account: IIS's one-to-one mapping, by SHA-256 fingerprint in hexadecimal.

    `ca` is the authority that signed them (PEM), or the certificates themselves.
    """

    ca: str
    fingerprints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MfaServerSettings:
    """One MFA Server.

    `users` are the embedded directory; the first master of a group takes them over as its users. A server without a
    `group` is alone: it needs no activation, and what is written is gone with it. `control` is where an operator (or a
    test) asks for its status, promotes it and throws its fault switches. Callers of the SDK show `account`, or one of
    the client certificates in `callers`. `cloud_tls` is what this server shows the cloud, and knows it by; without it
    an `https` cloud is verified with the system's authorities. With `ldap`, passwords are checked there and not against
    those in `users`, which need none then.
    """

    name: str
    cloud_url: str
    sdk: Endpoint
    radius: RadiusSettings
    account: Account
    users: tuple[User, ...] = ()
    group: GroupSettings | None = None
    control: Endpoint | None = None
    callers: CallerCertificates | None = None
    cloud_tls: ClientTls | None = None
    ldap: LdapSettings | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for what does not go together."""
        if self.ldap is not None and RadiusProtocol.MSCHAPV2 in self.radius.protocols:
            raise ValueError(
                "radius.protocols: mschapv2 needs the users' NT hashes, which an LDAP directory does not give; "
                'with ldap say protocols: ["pap"]'
            )
        for number, user in enumerate(self.users if self.ldap is None else ()):
            if not user.password and user.password_hash is None:
                raise ValueError(f"users[{number}]: password or password_hash is wanted")
