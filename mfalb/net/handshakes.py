"""How the TLS handshakes of a server end: counted, and told of when a client's certificate is the reason."""

from __future__ import annotations

import logging
import ssl
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Final

from mfalb.telemetry.rare_log import RareLog

FULL: Final = "full"
RESUMED: Final = "resumed"
REFUSED: Final = "client_certificate_refused"
MISSING: Final = "client_certificate_missing"
FAILED: Final = "failed"

_log = logging.getLogger("mfalb.tls")


class Handshakes:
    """Of one server. `counts` has a result each; who leaves in the midst of a handshake, or is too slow, is in none.

    With `tells` a refused certificate is also logged, once a minute for each reason.
    """

    def __init__(self, server: str, *, tells: bool, clock: Callable[[], float] = monotonic) -> None:
        self.counts: Final = Counter(dict.fromkeys((FULL, RESUMED, REFUSED, MISSING, FAILED), 0))
        self._server: Final = server
        self._tells: Final = tells
        self._rare_log: Final = RareLog(_log, clock)

    def ended(self, end: ssl.SSLObject) -> None:
        self.counts[RESUMED if end.session_reused else FULL] += 1

    def failed(self, error: ssl.SSLError) -> None:
        if isinstance(error, ssl.SSLCertVerificationError):
            result, reason = REFUSED, error.verify_message
        else:
            reason = error.reason or "no reason given"
            result = MISSING if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE" else FAILED
        self.counts[result] += 1
        if result == REFUSED and self._tells:
            facts = {"listener": self._server, "reason": reason}
            self._rare_log.warning(reason, "a client's certificate is refused", facts)


def watched_by(handshakes: Handshakes) -> type[ssl.SSLObject]:
    """For `sslobject_class` of a server's context: ends of connections whose handshakes are counted."""

    class Watched(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                handshakes.failed(error)
                raise
            handshakes.ended(self)

    return Watched
