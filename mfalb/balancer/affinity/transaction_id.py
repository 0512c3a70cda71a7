"""The pin of an id that a server handed out: learned from JSON answers, found in paths, JSON, queries and forms.

privacyIDEA's `transaction_id` is such an id: twenty random digits, so that no two servers give the same and no user is
needed beside it.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

from mfalb.balancer.affinity.store import pin_key
from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity
from mfalb.errors import MalformedMessage
from mfalb.wire.form_fields import form_fields
from mfalb.wire.json_pointer import JsonPointer, texts_untrusted

_ID_BYTES_LIMIT: Final = 512
BY_TRANSACTION_ID: Final = b"transaction_id"  # the kind of these pins
_FORM: Final = b"application/x-www-form-urlencoded"


def transaction_id_key(pool: str, transaction_id: bytes) -> bytes:
    """The key under which the backend is kept that handed out an id."""
    return pin_key(BY_TRANSACTION_ID, pool, transaction_id)


def is_json(content_type: bytes) -> bool:
    """Whether a body of this Content-Type is JSON (RFC 8259, RFC 6839 section 3.1)."""
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))


def _is_form(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == _FORM


class TransactionIdReader:
    """Reads ids out of requests and answers."""

    __slots__ = ("_forms", "_learned", "_pointers", "_pool", "_queries", "_tails")

    def __init__(self, pool: str, config: TransactionIdAffinity) -> None:
        self._pool = pool
        self._learned = [JsonPointer.parse(text) for text in config.answer_json]
        self._pointers = [JsonPointer.parse(text) for text in config.request_json]
        self._queries = [name.encode() for name in config.request_query]
        self._forms = [name.encode() for name in config.request_form]
        self._tails = [text.removesuffix("*").lower().encode() for text in config.request_path]

    def reads_body(self, content_type: bytes) -> bool:
        """Whether a request's body of this kind may hold an id."""
        return bool((self._pointers and is_json(content_type)) or (self._forms and _is_form(content_type)))

    def request_untrusted(self, target: bytes, content_type: bytes, body: bytes | None) -> bytes | None:
        """The key of what a request continues; None when it brings no id. Without its body the target is read alone.

        What cannot be read brings none: it is balanced like any other and left for the backend to refuse.
        """
        path, _, query = target.partition(b"?")
        found = self._in_path(path)
        if not found and body and self._pointers and is_json(content_type):
            found = self._in_json(body)
        if not found and query and self._queries:
            found = _first(query, self._queries)
        if not found and body and self._forms and _is_form(content_type):
            found = _first(body, self._forms)
        return transaction_id_key(self._pool, found) if 0 < len(found) <= _ID_BYTES_LIMIT else None

    def response_untrusted(self, body: bytes) -> list[bytes]:
        """The keys of the ids that an answer hands out; none when it is no JSON."""
        try:
            texts = texts_untrusted(body, self._learned)
        except MalformedMessage:
            return []
        ids = (_octets(text) for text in texts)
        return [transaction_id_key(self._pool, one) for one in ids if len(one) <= _ID_BYTES_LIMIT]

    def shown_path(self, path: bytes) -> bytes:
        """A path without the id in it, for logs."""
        start, end = self._place(path)
        return path[:start] + b"*" + path[end:] if end > start else path

    def _place(self, path: bytes) -> tuple[int, int]:
        """From where to where the id stands in a path. What precedes the pattern's own segments does not matter."""
        end = len(path.rstrip(b"/"))
        start = path.rfind(b"/", 0, end) + 1
        head = path[:start].lower()
        return (start, end) if any(head.endswith(tail) for tail in self._tails) else (0, 0)

    def _in_path(self, path: bytes) -> bytes:
        if not self._tails:
            return b""
        start, end = self._place(path)
        return unquote_to_bytes(path[start:end])

    def _in_json(self, body: bytes) -> bytes:
        try:
            texts = texts_untrusted(body, self._pointers)
        except MalformedMessage:
            return b""
        return _octets(texts[0]) if texts else b""


def _first(data: bytes, names: list[bytes]) -> bytes:
    """The value of the first of these names that has one."""
    fields = form_fields(data, names)
    return next((fields[name] for name in names if fields.get(name)), b"")


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON can escape half a character
