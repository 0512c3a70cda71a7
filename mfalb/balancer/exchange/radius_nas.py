"""Which NAS does a CoA- or Disconnect-Request mean, and what is said when none can be asked?"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from mfalb.balancer.pools.backend import Backend
from mfalb.wire import radius
from mfalb.wire.radius import Packet

_IDENTITY: Final = frozenset((radius.NAS_IP_ADDRESS, radius.NAS_IPV6_ADDRESS, radius.NAS_IDENTIFIER))
_IPV4: Final = 4


class ErrorCause(IntEnum):
    """Why a request was given to nobody (RFC 5176 section 3.5)."""

    MISSING_ATTRIBUTE = 402
    NAS_IDENTIFICATION_MISMATCH = 403
    UNSUPPORTED_EXTENSION = 406
    REQUEST_NOT_ROUTABLE = 502
    OTHER_PROXY_PROCESSING_ERROR = 505


class NasRoutes:
    """Finds a NAS by what a request calls it (RFC 5176 section 3)."""

    def __init__(self, backends: Iterable[Backend]) -> None:
        self._called: dict[str, dict[int, frozenset[bytes]]] = {}  # of each NAS: what it is called, by attribute type
        self._by_identity: dict[tuple[int, bytes], list[Backend]] = {}
        for backend in backends:
            called = self._called[backend.name] = _identities(backend)
            for kind, values in called.items():
                for value in values:
                    self._by_identity.setdefault((kind, value), []).append(backend)

    def find(self, request: Packet) -> Backend | ErrorCause:
        """The one NAS that everything in the request names.

        What nobody is known to be called speaks against a NAS that has other names of that type, and neither for nor
        against one that has none: whether it fits is for that NAS itself to say.
        """
        named = [(kind, value) for kind, value in request.attributes() if kind in _IDENTITY]
        if not named:
            return ErrorCause.MISSING_ATTRIBUTE
        met = [self._by_identity[identity] for identity in named if identity in self._by_identity]
        if not met:
            return ErrorCause.REQUEST_NOT_ROUTABLE
        unknown = {kind for kind, value in named if (kind, value) not in self._by_identity}
        fitting = [
            backend
            for backend in met[0]
            if all(backend in others for others in met) and not unknown & self._called[backend.name].keys()
        ]
        if not fitting:
            return ErrorCause.NAS_IDENTIFICATION_MISMATCH
        return fitting[0] if len(fitting) == 1 else ErrorCause.REQUEST_NOT_ROUTABLE


def _identities(backend: Backend) -> dict[int, frozenset[bytes]]:
    addresses = backend.config.nas_addresses
    called = {
        radius.NAS_IP_ADDRESS: frozenset(address.packed for address in addresses if address.version == _IPV4),
        radius.NAS_IPV6_ADDRESS: frozenset(address.packed for address in addresses if address.version != _IPV4),
        radius.NAS_IDENTIFIER: frozenset(name.encode() for name in backend.config.nas_identifiers),
    }
    return {kind: values for kind, values in called.items() if values}
