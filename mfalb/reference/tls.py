"""TLS contexts of the services, from PEM files. A file that is not what it should be is named in the error."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from mfalb.reference.config.values import Endpoint


def server_context(endpoint: Endpoint, callers_ca: str | None = None) -> ssl.SSLContext | None:
    """What an endpoint speaks TLS with; None where it speaks none. Raises ValueError.

    Clients must show a certificate of the endpoint's `client_ca`, where it has one; with `callers_ca` they may show one
    of that authority, and one that they show is verified.
    """
    if endpoint.cert is None or endpoint.key is None:
        if callers_ca is not None:
            raise ValueError("callers with certificates need cert and key: without TLS nobody can show one")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load_own(context, endpoint.cert, endpoint.key)
    for authority, mode in ((endpoint.client_ca, ssl.CERT_REQUIRED), (callers_ca, ssl.CERT_OPTIONAL)):
        if authority is not None:
            with _named(authority):
                context.load_verify_locations(authority)
            context.verify_mode = max(context.verify_mode, mode)
    return context


def client_context(ca: str | None, cert: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """To call somebody whom `ca` vouches for (None: the system's authorities), showing `cert`. Raises ValueError."""
    with _named(ca or "the system's authorities"):
        context = ssl.create_default_context(cafile=ca)
    if cert is not None:
        _load_own(context, cert, key or cert)
    return context


def _load_own(context: ssl.SSLContext, cert: str, key: str) -> None:
    with _named(f"{cert} with {key}"):
        context.load_cert_chain(cert, key)


@contextmanager
def _named(files: str) -> Iterator[None]:
    """OpenSSL says what is wrong, and never with what."""
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"{files}: {error.strerror or error}") from None
