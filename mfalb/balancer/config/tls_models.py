"""Certificates and what is asked of them, towards clients and towards backends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import Flag, Host, LocalFile, Seconds
from mfalb.net.tls import ClientFiles, ServerFiles


class Certificate(Table):
    """A certificate chain and its private key, both PEM."""

    cert: LocalFile
    key: LocalFile


class ListenerTls(Table):
    """TLS towards clients. The first certificate is offered when no other matches the client's SNI."""

    certificates: tuple[Certificate, ...] = Field(min_length=1)

    @property
    def files(self) -> ServerFiles:
        """What the listener's TLS is made from."""
        return ServerFiles(tuple((pair.cert, pair.key) for pair in self.certificates))


class HttpsTls(ListenerTls):
    """TLS towards HTTPS clients. Listeners of one name with the same secret in `ticket_key` resume their sessions."""

    ticket_key: LocalFile | None = None

    @property
    def files(self) -> ServerFiles:
        return replace(super().files, ticket_key=self.ticket_key)


class TlsWatch(Table):
    """How often the files of certificates, keys and authorities are looked at, to use what has changed."""

    file_check_interval_s: Seconds = 5.0


class UpstreamTls(Table):
    """TLS towards backends. `server_name` is sent as SNI and checked; by default it is the backend's host.

    `cert` and `key` are what the balancer shows of itself to a server that asks; RadSec servers always do.
    """

    ca: LocalFile | None = None
    verify: Flag = True
    server_name: Host | None = None
    cert: LocalFile | None = None
    key: LocalFile | None = None

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.cert is None) is not (self.key is None):
            given, missing = ("cert", "key") if self.key is None else ("key", "cert")
            raise ValueError(f"'{given}' is of no use without '{missing}'; write both or neither")
        return self

    @property
    def certificate(self) -> tuple[Path, Path] | None:
        """The balancer's own chain and key for this pool."""
        return None if self.cert is None or self.key is None else (self.cert, self.key)

    @property
    def files(self) -> ClientFiles:
        """What the pool's TLS is made from."""
        return ClientFiles(self.ca, self.verify, self.certificate)
