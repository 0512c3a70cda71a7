"""Certificates and what is asked of them, towards clients and towards backends."""

from __future__ import annotations

from pydantic import Field

from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import Flag, Host, LocalFile


class Certificate(Table):
    """A certificate chain and its private key, both PEM."""

    cert: LocalFile
    key: LocalFile


class ListenerTls(Table):
    """TLS towards clients. The first certificate is offered when no other matches the client's SNI."""

    certificates: tuple[Certificate, ...] = Field(min_length=1)


class UpstreamTls(Table):
    """TLS towards backends. `server_name` is sent as SNI and checked; by default it is the backend's host."""

    ca: LocalFile | None = None
    verify: Flag = True
    server_name: Host | None = None
