"""pyrad, an independent RADIUS implementation, as the peer that judges and makes packets."""

from __future__ import annotations

from pyrad.packet import AccessRequest, AcctPacket, AuthPacket, CoAPacket, Packet

from mfalb.wire.radius import SharedSecret


def accepts_reply(request: bytes, reply: bytes, secret: SharedSecret, *, enforce_ma: bool = True) -> bool:
    """Whether a client that sent `request` takes `reply`, by both authenticators."""
    sent = AuthPacket(packet=request, secret=secret.value)
    return bool(sent.VerifyReply(Packet(packet=reply, secret=secret.value), enforce_ma=enforce_ma))


def accepts_request(request: bytes, secret: SharedSecret) -> bool:
    """Whether a server takes the Message-Authenticator of an Access-Request."""
    received = AuthPacket(packet=request, secret=secret.value)
    return bool(received.message_authenticator) and bool(received.verify_message_authenticator())


def made_request(attributes: list[tuple[int, bytes]], authenticator: bytes, secret: SharedSecret) -> bytes:
    """An Access-Request as pyrad makes it, with a Message-Authenticator."""
    packet = AuthPacket(code=AccessRequest, id=7, secret=secret.value, authenticator=authenticator)
    for kind, value in attributes:
        packet.setdefault(kind, []).append(value)
    packet.add_message_authenticator()
    return bytes(packet.RequestPacket())


def hidden_password(password: bytes, secret: SharedSecret, authenticator: bytes) -> bytes:
    return bytes(AuthPacket(id=0, secret=secret.value, authenticator=authenticator).PwCrypt(password))


def revealed_password(value: bytes, secret: SharedSecret, authenticator: bytes) -> str:
    return str(AuthPacket(id=0, secret=secret.value, authenticator=authenticator).PwDecrypt(value))


def salted(value: bytes, secret: SharedSecret, request_authenticator: bytes) -> bytes:
    return bytes(Packet(id=0, secret=secret.value, authenticator=request_authenticator).SaltCrypt(value))


def unsalted(value: bytes, secret: SharedSecret, request_authenticator: bytes) -> bytes:
    return bytes(Packet(id=0, secret=secret.value, authenticator=request_authenticator).SaltDecrypt(value))


def accepts_accounting(request: bytes, secret: SharedSecret) -> bool:
    """Whether a server takes an Accounting-Request, by its authenticator and its Message-Authenticator if any."""
    received = AcctPacket(packet=request, secret=secret.value)
    is_mac_right = not received.message_authenticator or bool(received.verify_message_authenticator())
    return bool(received.VerifyAcctRequest()) and is_mac_right


def accepts_dynamic_authorization(request: bytes, secret: SharedSecret) -> bool:
    """Whether a NAS takes a CoA- or Disconnect-Request, by its authenticator and its Message-Authenticator if any."""
    received = CoAPacket(packet=request, secret=secret.value)
    is_mac_right = not received.message_authenticator or bool(received.verify_message_authenticator())
    return bool(received.VerifyCoARequest()) and is_mac_right
