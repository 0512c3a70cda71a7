"""What a shared secret hides, hidden anew for a peer that has another secret.

Lengths never change by that, so each value is patched in its place and every other byte stays where and what it was.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, assert_never

from mfalb.wire import radius
from mfalb.wire.radius import Packet
from mfalb.wire.radius_hidden import (
    SALT_BYTES,
    Keying,
    rehide_ascend_secret_untrusted,
    rehide_password_untrusted,
    rehide_salted_untrusted,
    unique_salt,
)
from mfalb.wire.radius_hidden_attributes import Hidden, Scheme, hidden_values

_TAG_BYTES: Final = 1


def rehidden_body_untrusted(packet: Packet, old: Keying, new: Keying, unhandled: Counter[str] | None = None) -> bytes:
    """The packet's attributes less its Message-Authenticator, with all that is hidden hidden anew.

    Salts stay as they are where that may be: RFC 2868 section 3.5 wants the first bit set and no two alike in a packet.
    What is known to be hidden but cannot be handled passes as it is, and is counted in `unhandled` by a name of ours.
    Raises MalformedMessage when a hidden value has a length that its scheme cannot give.
    """
    hidden = hidden_values(packet)
    if not hidden:
        return _with_password_hidden_anew_untrusted(packet, old, new)
    data, patched, salts = packet.data, bytearray(packet.data), set[int]()
    password = packet.offsets.get(radius.USER_PASSWORD)
    if password is not None:
        hidden.append(Hidden("User-Password", Scheme.USER_PASSWORD, password + 2, password + data[password + 1]))
    for name, scheme, start, end in hidden:
        if scheme is not None:
            patched[start:end] = _rehide_untrusted(scheme, data[start:end], (old, new), salts)
        elif unhandled is not None:
            unhandled[name] += 1
    offset = packet.offsets.get(radius.MESSAGE_AUTHENTICATOR)
    if offset is not None:
        del patched[offset : offset + radius.MESSAGE_AUTHENTICATOR_BYTES]
    return bytes(patched[radius.HEADER_BYTES :])


def count_hidden(packet: Packet, unhandled: Counter[str]) -> None:
    """Count what is hidden in a packet that passes to a peer with another secret as it is."""
    for name, _, _, _ in hidden_values(packet):
        unhandled[name] += 1
    if radius.USER_PASSWORD in packet.offsets:
        unhandled["User-Password"] += 1


def _rehide_untrusted(scheme: Scheme, value: bytes, keyings: tuple[Keying, Keying], salts: set[int]) -> bytes:
    old, new = keyings
    match scheme:
        case Scheme.USER_PASSWORD:
            return rehide_password_untrusted(value, old, new)
        case Scheme.SALTED:
            return rehide_salted_untrusted(value, old, new, unique_salt(value[:SALT_BYTES], salts))
        case Scheme.TAGGED:
            tag, value = value[:_TAG_BYTES], value[_TAG_BYTES:]
            return tag + rehide_salted_untrusted(value, old, new, unique_salt(value[:SALT_BYTES], salts))
        case Scheme.ASCEND_SECRET:
            return rehide_ascend_secret_untrusted(value, old, new)
        case _:
            assert_never(scheme)


def _with_password_hidden_anew_untrusted(packet: Packet, old: Keying, new: Keying) -> bytes:
    """The same for a packet that hides nothing but perhaps its User-Password, as nearly all do."""
    password = packet.offsets.get(radius.USER_PASSWORD)
    if password is None:
        return radius.body_without_message_authenticator(packet)
    data, start = packet.data, password + 2
    end = password + data[password + 1]
    hidden = rehide_password_untrusted(data[start:end], old, new)
    mac = packet.offsets.get(radius.MESSAGE_AUTHENTICATOR)
    if mac is None:
        return data[radius.HEADER_BYTES : start] + hidden + data[end:]
    after_mac = mac + radius.MESSAGE_AUTHENTICATOR_BYTES
    if mac < password:
        return data[radius.HEADER_BYTES : mac] + data[after_mac:start] + hidden + data[end:]
    return data[radius.HEADER_BYTES : start] + hidden + data[end:mac] + data[after_mac:]
