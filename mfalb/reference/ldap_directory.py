"""The directory over LDAP: a user is found by a search, and the password is right when a bind as that user succeeds.

The library blocks on the network, up to `timeout_s` a step, in threads of this directory's own. Nothing is kept between
two questions, so a directory server that was away is simply there again.
"""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil
from typing import Final
from urllib.parse import urlsplit

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import escape_rdn

from mfalb.reference.config.ldap import LdapSettings
from mfalb.reference.config.values import User
from mfalb.reference.threads import Threads

NAME_LIMIT: Final = 256  # characters; longer names are nobody's
_AT_A_TIME: Final = 16  # questions, with a connection each; further ones wait for their turn

_log = logging.getLogger("mfalb.reference.ldap_directory")


class LdapDirectory:
    """Primary authentication against a directory server."""

    def __init__(self, settings: LdapSettings) -> None:
        self._settings = settings
        self._threads = Threads("ldap", _AT_A_TIME)
        parts = urlsplit(settings.url)
        is_tls = parts.scheme == "ldaps"
        tls = None
        if is_tls or settings.starts_tls:
            tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=settings.ca)
        self._server = ldap3.Server(
            parts.hostname or "",
            port=parts.port or (636 if is_tls else 389),
            use_ssl=is_tls,
            tls=tls,
            get_info=ldap3.NONE,
            connect_timeout=settings.timeout_s,
        )

    async def check(self, name: str, password: str) -> User | None:
        """The user whose password this is, or None: as well for an unknown name, and while no directory answers.

        An empty password is nobody's: a bind without one succeeds for everybody (RFC 4513 section 5.1.2). For a name
        that does not exist, a bind is tried all the same, so that it takes as long.
        """
        if not name or not password or len(name) > NAME_LIMIT:
            return None
        return await self._threads.run(self._check, name, password)

    def _check(self, name: str, password: str) -> User | None:
        try:
            found = self._find(name)
            dn = found[0] if found is not None else f"uid={escape_rdn(secrets.token_hex(8))},{self._settings.base}"
            is_right = self._binds(dn, password)
        except (LDAPException, OSError) as error:  # ssl's errors are OSErrors
            _log.error("directory unavailable", extra={"reason": type(error).__name__})
            return None
        return User(found[1], "", "") if is_right and found is not None else None

    def _find(self, name: str) -> tuple[str, str] | None:
        """The distinguished name of the user, and the name as the directory spells it."""
        settings = self._settings
        with self._connected(settings.bind_dn, settings.bind_password) as connection:
            if not connection.bind():
                raise LDAPException("the service account was refused")
            query = settings.user_filter.format(escape_filter_chars(name))
            connection.search(settings.base, query, attributes=[settings.name_attribute], size_limit=2)
            entries = [entry for entry in connection.response or [] if entry["type"] == "searchResEntry"]
        if len(entries) != 1:  # nobody, or it cannot be said who
            return None
        names = entries[0]["attributes"].get(settings.name_attribute) or [name]
        return entries[0]["dn"], str(names[0] if isinstance(names, list) else names)

    def _binds(self, dn: str, password: str) -> bool:
        with self._connected(dn, password) as connection:
            return bool(connection.bind())

    @contextmanager
    def _connected(self, dn: str, password: str) -> Iterator[ldap3.Connection]:
        """A connection that is open, and with TLS where that is asked for, but not bound; closed in any case."""
        connection = ldap3.Connection(
            self._server,
            user=dn,
            password=password,
            receive_timeout=ceil(self._settings.timeout_s),  # ldap3 takes whole seconds
            auto_bind=ldap3.AUTO_BIND_NONE,
            auto_referrals=False,  # a referral would carry the password to whom the answer names
            read_only=True,
        )
        try:
            connection.open()
            if self._settings.starts_tls and not connection.start_tls():
                raise LDAPException("no TLS")
            yield connection
        finally:
            sock = connection.socket
            with suppress(LDAPException, OSError):
                connection.unbind()
            if sock is not None:
                sock.close()  # ldap3 leaves it open when TLS has failed
