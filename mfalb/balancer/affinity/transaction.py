"""The pin of a Web Service SDK transaction: (user, request id), both read from the messages themselves.

AD FS nodes keep no cookies and the two halves of one sign-in may come from different nodes, so nothing but the content
ties them. Request ids are small numbers that collide across servers (MFA facts, section 1.5): never a key without the
user. Where an id is long and random (activations of a mobile app) the user may be left out.
"""

from __future__ import annotations

from typing import Final

from mfalb.balancer.affinity.store import pin_key
from mfalb.balancer.config.models import TransactionAffinity
from mfalb.errors import MalformedMessage
from mfalb.wire.soap import read_envelope_untrusted

BY_TRANSACTION: Final = b"transaction"
_TRUE: Final = ("true", "1")  # the two spellings of XML Schema's boolean


def transaction_key(pool: str, user: str, request_id: str) -> bytes:
    """The key under which a transaction's backend is kept. Windows user names have no case, so neither does the key."""
    return pin_key(BY_TRANSACTION, pool, user.casefold().encode(), request_id.encode())


class TransactionReader:
    """Reads what ties the halves of a transaction out of SOAP bodies."""

    __slots__ = (
        "_id_element",
        "_pool",
        "_request_id_element",
        "_result_element",
        "_user_element",
        "_wanted",
        "is_by_id_alone",
    )

    def __init__(self, pool: str, config: TransactionAffinity) -> None:
        self._pool = pool
        self._user_element = config.user_element or ""  # no element is called that
        self.is_by_id_alone = config.user_element is None
        self._id_element = config.id_element
        self._request_id_element = config.request_id_element or config.id_element
        self._result_element = config.result_element
        self._wanted = frozenset((self._user_element, self._id_element, self._request_id_element))

    def request_untrusted(self, body: bytes) -> tuple[str, bytes | None]:
        """The user of a request, and the key of the transaction it continues (None when it begins one).

        The user is "" when the body names none or is no SOAP: such a request is balanced like any other and left for
        the backend to refuse.
        """
        try:
            texts = read_envelope_untrusted(body, self._wanted).texts
        except MalformedMessage:
            return "", None
        user, request_id = texts.get(self._user_element, ""), texts.get(self._request_id_element, "")
        if not request_id or not (user or self.is_by_id_alone):
            return user, None
        return user, transaction_key(self._pool, user, request_id)

    def response_untrusted(self, user: str, body: bytes) -> bytes | None:
        """The key of the transaction that a response to `user`'s request begins; None when it begins none."""
        try:
            texts = read_envelope_untrusted(body, self._wanted).texts
        except MalformedMessage:
            return None
        request_id = texts.get(self._id_element, "")
        is_complete = request_id and (user or self.is_by_id_alone)
        return transaction_key(self._pool, user, request_id) if is_complete else None

    def is_ended_by_untrusted(self, body: bytes) -> bool:
        """Whether a response to what continued a transaction says that it has come to its good end."""
        try:
            envelope = read_envelope_untrusted(body)
        except MalformedMessage:
            return False
        result_element = self._result_element or envelope.method.removesuffix("Response") + "Result"
        return envelope.texts.get(result_element, "").lower() in _TRUE
