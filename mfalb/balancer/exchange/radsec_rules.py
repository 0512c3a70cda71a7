"""What RADIUS over a connection asks for beyond what RADIUS over UDP does (RFC 6613 section 2.6)."""

from __future__ import annotations

from typing import Final

# RFC 6613 section 2.6.4: over UDP these are discarded in silence; on a connection nothing behind them can be trusted,
# and it must be closed. Everything else (an unknown code, a signature that is missing, a loop) is discarded as ever.
ENDS_CONNECTION: Final = frozenset(
    (
        "bad_length",
        "short_datagram",
        "truncated",
        "bad_attribute_length",
        "attributes_overrun",
        "bad_message_authenticator_length",
        "repeated_message_authenticator",
        "bad_message_authenticator",
        "bad_request_authenticator",
        "bad_response_authenticator",
    )
)
