"""MS-CHAPv2 sign-ins in radclient's words, and what an accepting server must prove in return."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mfalb.reference.directory import nt_hash
from mfalb.reference.mfa_server.radius_mschap import Exchange

_IDENTIFIER: Final = 9
_CHALLENGE, _PEER_CHALLENGE = bytes(range(16)), bytes(range(16, 32))


def proved(user: str, password: str) -> Exchange:
    """What a client sends who knows the password; always with the same challenges."""
    asked = Exchange(user.encode(), _IDENTIFIER, _CHALLENGE, _PEER_CHALLENGE, b"")
    return replace(asked, response=asked.expected(nt_hash(password)))


def mschapv2(user: str, password: str) -> list[tuple[str, str]]:
    """A request."""
    response = bytes((_IDENTIFIER, 0)) + _PEER_CHALLENGE + bytes(8) + proved(user, password).response
    attributes = [("MS-CHAP-Challenge", "0x" + _CHALLENGE.hex()), ("MS-CHAP2-Response", "0x" + response.hex())]
    return [("User-Name", user), *attributes]


def is_proof(success: str, user: str, password: str) -> bool:
    """Whether an MS-CHAP2-Success shows that the server knows the password, too."""
    wanted = bytes((_IDENTIFIER,)) + proved(user, password).proof(nt_hash(password)).encode()
    return bytes.fromhex(success[2:]) == wanted
