"""Affinity by an id that servers hand out in JSON, such as privacyIDEA's transaction_id.

Any answer in JSON may hand one out, also one to a request that brought another: a challenge may follow the first one.
"""

from __future__ import annotations

from typing import Final

from mfalb.balancer.affinity.store import Pin, PinChange, PinStore
from mfalb.balancer.affinity.transaction_id import TransactionIdReader, is_json
from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity
from mfalb.balancer.exchange.http_affinity import NO_CHANGES, Moment, PinFound, WithoutAffinity
from mfalb.balancer.pools.backend import Backend
from mfalb.wire.http_fields import Framing
from mfalb.wire.http_heads import RequestHead, ResponseHead

_BRINGS_NONE: Final = PinFound("N")


class TransactionIdStrategy(WithoutAffinity):
    """Ids are found in requests; a JSON answer is held until the pins of its ids are stored."""

    def __init__(self, pool: str, config: TransactionIdAffinity, pins: PinStore) -> None:
        super().__init__()
        self.body_limit = config.body_limit
        self._life_s = config.lifetime_s
        self._reader = TransactionIdReader(pool, config)
        self._pins = pins

    def needs_request_body(self, head: RequestHead) -> bool:
        """Also when there is no body but the target brings an id: another node may have to be asked for its pin."""
        content_type = head.special.get(b"content-type", b"")
        has_body = head.framing is not Framing.NONE and self._reader.reads_body(content_type)
        if has_body or b"?" in head.target:
            # What answers parameters must be readable, so no encoding is asked for; a compressed answer is not pinned
            head.special.pop(b"accept-encoding", None)
        return has_body or self._reader.request_untrusted(head.target, b"", None) is not None

    def pin_of(self, head: RequestHead, body: bytes | None, moment: Moment) -> PinFound:
        key = self._reader.request_untrusted(head.target, head.special.get(b"content-type", b""), body)
        if key is None:
            return _BRINGS_NONE
        backend = self._pins.find(key, moment.monotonic)
        return PinFound("V" if backend is not None else "I", backend, is_strict=True, key=key)

    def needs_response_body(self, _found: PinFound, head: ResponseHead) -> bool:
        return b"content-encoding" not in head.special and is_json(head.field(b"content-type"))

    def pin_changes(self, _found: PinFound, body: bytes, backend: Backend, now: float) -> tuple[PinChange, ...]:
        keys = self._reader.response_untrusted(body)
        return tuple([Pin(key, backend.name, now + self._life_s) for key in keys]) if keys else NO_CHANGES

    def shown_path(self, path: bytes) -> bytes:
        return self._reader.shown_path(path)
