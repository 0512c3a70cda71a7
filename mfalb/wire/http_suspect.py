"""What was found wanting in a client's stream, fit to be shown: where it is, with all secrets masked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mfalb.errors import MalformedMessage
from mfalb.wire.http_bodies import BodyFault

EXCERPT_BYTES: Final = 2048
_BEFORE_BYTES: Final = 1024
# Whatever these fields hold, to the end of their line and of the lines that are folded under it
_SECRET_FIELDS: Final = re.compile(
    rb"(?im)^[ \t]*(?:(?:proxy-)?authorization|cookie2?|set-cookie2?|x-[a-z-]*(?:token|key|auth|secret|otp|pin)[a-z-]*)"
    rb"[ \t]*[:=]?((?:[^\r\n]|\r?\n[ \t]|\r(?!\n))*)"
)
_EMPTY_LINE: Final = re.compile(rb"\r?\n\r?\n|\r\r")
_BODY_EXCERPT_BYTES: Final = 32
_QUERY: Final = re.compile(rb"\?([^\s]*)")  # a user PIN may stand there


@dataclass(frozen=True, slots=True)
class Suspect:
    """`excerpt` is at most EXCERPT_BYTES of the message; `position` is where in it the fault was found.

    `cut_bytes` were left out before the excerpt.
    """

    reason: str
    excerpt: bytes
    position: int
    cut_bytes: int


def suspect_in_body(fault: BodyFault) -> Suspect:
    """A fault in the framing of a body: its culprit may be what somebody typed, so only its shape is shown.

    Digits are shown as 9 and letters as a.
    """
    culprit = fault.culprit[:_BODY_EXCERPT_BYTES]
    shape = re.sub(rb"[A-Za-z\x80-\xff]", b"a", re.sub(rb"[0-9]", b"9", culprit))
    return Suspect(fault.reason, shape, min(fault.offset, len(shape)), 0)


def suspect_of(error: MalformedMessage, message: bytes) -> Suspect:
    """The fault in `message`, which is a head. Masking keeps every length, so that positions stay true.

    What stands behind its first empty line, however that is written, is not shown: somebody takes it for the body.
    """
    end = _EMPTY_LINE.search(message)
    message = message if end is None else message[: end.end()]
    found = message.find(error.culprit) if error.culprit else 0
    position = max(found, 0) + error.offset
    masked = _QUERY.sub(_masked, _SECRET_FIELDS.sub(_masked, message))
    cut = max(position - _BEFORE_BYTES, 0)
    return Suspect(error.reason, masked[cut : cut + EXCERPT_BYTES], position - cut, cut)


def _masked(matched: re.Match[bytes]) -> bytes:
    """The match with every byte of its group but line ends replaced."""
    whole, start = matched.group(0), matched.start(1) - matched.start(0)
    return whole[:start] + re.sub(rb"[^\r\n]", b"*", whole[start:])
