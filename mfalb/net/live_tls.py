"""TLS contexts that follow their files: what listeners and upstreams hold stays, what is behind it is exchanged.

Connections keep what they began with; those that begin later get what is current.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from mfalb.net.handshakes import Handshakes, watched_by
from mfalb.net.openssl import NativeTls, native_tls
from mfalb.net.ticket_keys import ticket_key
from mfalb.net.tls import (
    Choice,
    ClientFiles,
    ServerFiles,
    client_context,
    crl_expiry_s,
    expiry_s,
    front_context,
)

# Clients that show certificates are looked at anew after so long at most: a session that is resumed skips that, and
# each resumption may give another ticket, so that an expired certificate would live on.
TRUST_S: Final = 3600.0

Digests = tuple[bytes, ...]
Swap = Callable[[], None]


class LiveContext(ssl.SSLContext):
    """Stands for the context that is `current` when a connection begins. Has no settings of its own that count."""

    current: ssl.SSLContext

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As ssl.SSLContext has it. All that event loops call."""
        return self.current.wrap_bio(
            incoming, outgoing, server_side=server_side, server_hostname=server_hostname, session=session
        )


class LiveTls(ABC):
    """A live context and the files that it is made from. `expiries` tells when what is in use expires, by file.

    `at_start` are the digests of what it began with.
    """

    def __init__(self, name: str, files: tuple[Path, ...], context: LiveContext) -> None:
        self.name = name
        self.files = files
        self.context = context
        self.at_start = self.digests()  # before they are read: what changes meanwhile is a change
        self.expiries: dict[Path, float] = {}
        self.crl_expiries: dict[Path, float] = {}

    def digests(self) -> Digests:
        """What stands for the present content of the files; another result is another content."""
        return tuple(_digest(file) for file in self.files)

    @abstractmethod
    def prepare(self, now: float) -> Swap:
        """Read the files; the result puts them into use. Raises OSError, ssl.SSLError and ValueError.

        `now` in seconds since 1970. May be called in another thread.
        """

    @abstractmethod
    def renew(self, now: float) -> None:
        """Do what is to be done from time to time, though no file has changed."""

    def take_over(self, former: LiveTls) -> None:
        """Stand where another one stood: who holds its context gets what is current here."""
        former.context.current = self.context.current
        self.context = former.context

    def _note(self, expiries: Mapping[Path, float], crl_expiries: Mapping[Path, float]) -> None:
        self.expiries, self.crl_expiries = dict(expiries), dict(crl_expiries)


class LiveServer(LiveTls):
    """The TLS of a listener. `secret` makes its ticket keys unless its files name another."""

    def __init__(self, name: str, files: ServerFiles, secret: bytes, now: float) -> None:
        trust = files.client_trust
        # Part of what a session was earned under: OpenSSL resumes one without a certificate where one is required now
        self._asked = b"" if trust is None else b"required" if trust.is_required else b"optional"
        self._trust_files = () if trust is None else tuple(file for file in (trust.ca, trust.crl) if file is not None)
        tickets = () if files.ticket_key is None else (files.ticket_key,)
        pairs = tuple(dict.fromkeys(file for pair in files.pairs for file in pair))
        super().__init__(name, (*pairs, *self._trust_files, *tickets), LiveContext(ssl.PROTOCOL_TLS_SERVER))
        self.handshakes = Handshakes(name, tells=files.tells_refusals)
        self._sslobject_class = watched_by(self.handshakes)
        self._files = files
        self._secret = secret
        self._trust = b""
        self._choice: Choice
        self._earned: tuple[bytes, bytes] | None = None
        self.prepare(now)()

    def prepare(self, now: float) -> Swap:
        files = self._files
        choice = Choice(files)
        trust = b"".join((self._asked, *map(_digest, self._trust_files)))
        secret = self._secret if files.ticket_key is None else files.ticket_key.read_bytes()
        ticket_key(secret, self.name, trust)  # tried here, where a fault has a place
        expiries = {chain: expiry_s(chain) for chain, _ in files.pairs}
        crl = files.client_trust.crl if files.client_trust is not None else None
        crl_end = crl_expiry_s(crl) if crl is not None else None

        def swap() -> None:
            self._choice, self._trust, self._secret = choice, trust, secret
            self._note(expiries, {} if crl is None or crl_end is None else {crl: crl_end})
            self.renew(now)

        return swap

    def take_over(self, former: LiveTls) -> None:
        super().take_over(former)
        if isinstance(former, LiveServer):
            self.handshakes.counts.update(former.handshakes.counts)

    def renew(self, now: float) -> None:
        """See to it that a session is resumed only under the trust, the secret and the hour in which it was begun.

        What was earned under others is in the tickets and in the cache of the former front: both go with it.
        """
        hour = b"%d" % (now // TRUST_S) if self._trust_files else b""
        earned = (self._trust + hour, self._secret)
        if earned == self._earned:
            return
        front = front_context(self._files)
        front.sni_callback = self._choose
        front.sslobject_class = self._sslobject_class
        native = native_tls()
        if isinstance(native, NativeTls):
            native.set_ticket_key(front, ticket_key(self._secret, self.name, earned[0]))
        self.context.current, self._earned = front, earned

    def _choose(self, sslobj: ssl.SSLObject | ssl.SSLSocket, server_name: str | None, _: ssl.SSLContext) -> None:
        sslobj.context = self._choice.context_for(server_name)


class LiveClient(LiveTls):
    """The TLS of a pool, towards its backends."""

    def __init__(self, name: str, files: ClientFiles, now: float) -> None:
        some = () if files.ca is None else (files.ca,)
        super().__init__(name, (*some, *(files.certificate or ())), LiveContext(ssl.PROTOCOL_TLS_CLIENT))
        self._files = files
        self.prepare(now)()

    def renew(self, now: float) -> None:
        """Nothing: what we resume is for servers to judge."""

    def prepare(self, now: float) -> Swap:  # noqa: ARG002 - only servers' sessions have hours
        context = client_context(self._files)
        certificate = self._files.certificate
        expiries = {certificate[0]: expiry_s(certificate[0])} if certificate is not None else {}

        def swap() -> None:
            self.context.current = context
            self._note(expiries, {})

        return swap


def _digest(file: Path) -> bytes:
    """SHA-256 of what is found there, through whatever links; of a file that cannot be read, the reason."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # reading a pipe would wait for its writer
            return b"no regular file"
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError as error:
        return os.strerror(error.errno or 0).encode()
