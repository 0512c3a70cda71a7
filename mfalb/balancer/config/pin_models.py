"""The store of pins that several nodes share, as an operator writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import Address, Flag, Host, LocalFile, Name, Seconds, Secret, quoted
from mfalb.net.tls import ClientFiles

_PREFIX_LIMIT = 64


def _check_prefix(value: str) -> str:
    if len(value) > _PREFIX_LIMIT or not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError(f"{quoted(value)} is no prefix; use up to {_PREFIX_LIMIT} visible ASCII characters")
    return value


def _check_user(value: str) -> str:
    if not value or not value.isprintable() or " " in value:
        raise ValueError(f"{quoted(value)} is no user; write its name without spaces, or leave it out")
    return value


Prefix = Annotated[str, AfterValidator(_check_prefix), WithJsonSchema({"type": "string", "pattern": "^[!-~]{0,64}$"})]
"""What every key of ours begins with in a store that others may use as well."""

UserName = Annotated[str, AfterValidator(_check_user)]


class StoreTls(Table):
    """TLS towards the store and its Sentinels. `server_name` is looked for in certificates instead of the host."""

    ca: LocalFile | None = None
    cert: LocalFile | None = None
    key: LocalFile | None = None
    server_name: Host | None = None

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.cert is None) is not (self.key is None):
            given, missing = ("cert", "key") if self.key is None else ("key", "cert")
            raise ValueError(f"'{given}' is of no use without '{missing}'; write both or neither")
        return self

    @property
    def certificate(self) -> tuple[Path, Path] | None:
        """What the balancer shows of itself to a store that asks."""
        return None if self.cert is None or self.key is None else (self.cert, self.key)

    @property
    def files(self) -> ClientFiles:
        """What TLS towards the store is made from."""
        return ClientFiles(self.ca, is_verified=True, certificate=self.certificate, peer_name=self.server_name)


class SharedStore(Table):
    """Valkey or Redis, where the nodes find one another's pins.

    `addresses` is the one server, or Sentinels when `sentinel` names what they watch, or some nodes of a `cluster`. An
    answer that begins a transaction waits for the store, at most for `timeout_s`. `node` is this node's name among the
    others, by default that of its host.
    """

    type: Literal["valkey"]
    addresses: tuple[Address, ...] = Field(min_length=1)
    sentinel: Name | None = None
    sentinel_password: Secret | None = None
    cluster: Flag = False
    user: UserName | None = None
    password: Secret | None = None
    tls: StoreTls | None = None
    timeout_s: Seconds = 0.05
    prefix: Prefix = "mfalb:"
    node: Name | None = None

    @model_validator(mode="after")
    def _one_way_to_find_it(self) -> Self:
        if self.cluster and self.sentinel is not None:
            raise ValueError("'cluster' and 'sentinel' are two ways to find a store; keep one of them")
        if len(self.addresses) > 1 and not self.cluster and self.sentinel is None:
            raise ValueError(
                "several 'addresses' are those of Sentinels or of a cluster; write 'sentinel: NAME' or 'cluster: true' "
                "too, or keep one address"
            )
        if self.sentinel_password is not None and self.sentinel is None:
            raise ValueError("'sentinel_password' is of no use without 'sentinel'; leave it out")
        if self.user is not None and self.password is None:
            raise ValueError("'user' is of no use without 'password_file' or 'password_env'; write one of them")
        return self
