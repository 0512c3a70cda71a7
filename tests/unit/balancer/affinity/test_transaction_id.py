import json
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfalb.balancer.affinity.transaction_id import TransactionIdReader, is_json, transaction_id_key
from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity

ID = "15388991524371704731"
JSON = b"application/json"
FORM = b"application/x-www-form-urlencoded"
READER = TransactionIdReader(
    "otp",
    TransactionIdAffinity(
        type="transaction_id",
        answer_json=("/detail/transaction_id", "/detail/multi_challenge/*/transaction_id"),
        request_path=("/validate/polltransaction/*",),
        request_json=("/transaction_id", "/state"),
        request_query=("transaction_id", "state"),
        request_form=("transaction_id", "state"),
    ),
)


def form(**fields: str) -> bytes:
    return urlencode(fields).encode()


def document(**members: object) -> bytes:
    return json.dumps(members).encode()


@pytest.mark.parametrize(
    ("target", "content_type", "body", "found"),
    [
        ("/validate/check", FORM, form(user="alice", transaction_id=ID), ID),
        ("/validate/check", FORM + b"; charset=UTF-8", form(state=ID, transaction_id=""), ID),
        ("/validate/check", FORM.upper(), form(transaction_id="1", state="2"), "1"),
        ("/validate/check", FORM, form(user="alice", password="transaction_id"), None),
        ("/validate/check", FORM, document(transaction_id=ID), None),
        ("/validate/check", JSON, document(user="alice", transaction_id=ID), ID),
        ("/validate/check", b"application/json; charset=utf-8", document(transaction_id=int(ID)), ID),
        ("/validate/check", b"application/vnd.x+json", document(state=ID), ID),
        ("/validate/check", JSON, document(transaction_id=["1"]), None),
        ("/validate/check", JSON, b'{"transaction_id": "', None),
        ("/validate/check", b"text/plain", document(transaction_id=ID), None),
        ("/validate/check", b"", b"", None),
        ("/validate/check", JSON, None, None),
        (f"/validate/check?user=a&transaction_id={ID}", b"", None, ID),
        (f"/validate/check?state={ID}", b"", b"", ID),
        ("/validate/check?transaction_id=1", FORM, form(transaction_id="2"), "1"),
        ("/validate/check?transaction_id=1", JSON, document(transaction_id="3"), "3"),
        (f"/validate/polltransaction/{ID}", b"", None, ID),
        (f"/mfa/Validate/PollTransaction/{ID}/?x=1", b"", None, ID),
        (f"/validate/polltransaction/{ID}?transaction_id=2", JSON, document(transaction_id="3"), ID),
        ("/validate/polltransaction/a%2Bb", b"", None, "a+b"),
        ("/validate/polltransaction/", b"", None, None),
        ("/validate/polltransaction", b"", None, None),
        ("/validate/polltransaction/1/2", b"", None, None),
        ("/xvalidate/polltransaction/1", b"", None, None),
        ("/", FORM, form(transaction_id="x" * 512), "x" * 512),
        ("/", FORM, form(transaction_id="x" * 513), None),
    ],
)
def test_a_request_brings_the_id_of_what_it_continues(
    target: str, content_type: bytes, body: bytes | None, found: str | None
) -> None:
    key = None if found is None else transaction_id_key("otp", found.encode())
    assert READER.request_untrusted(target.encode(), content_type, body) == key


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (document(detail={"transaction_id": ID}), [ID]),
        (document(detail={"transaction_id": ID, "multi_challenge": [{"transaction_id": ID}]}), [ID]),
        (document(detail={"multi_challenge": [{"transaction_id": "1"}, {"transaction_id": "2"}]}), ["1", "2"]),
        (document(detail={"message": "wrong otp pin"}), []),
        (document(detail=None), []),
        (document(detail={"transaction_id": "x" * 513}), []),
        (b"<html>502 Bad Gateway</html>", []),
        (b"", []),
    ],
)
def test_an_answer_hands_out_ids(body: bytes, ids: list[str]) -> None:
    assert READER.response_untrusted(body) == [transaction_id_key("otp", one.encode()) for one in ids]


def test_half_a_character_in_an_id_is_no_obstacle() -> None:
    body = b'{"detail": {"transaction_id": "\\ud83d"}, "transaction_id": "\\ud83d"}'
    assert READER.response_untrusted(body) == [READER.request_untrusted(b"/", JSON, body)]


def test_the_same_id_in_two_pools_means_two_transactions() -> None:
    assert transaction_id_key("otp", b"1") != transaction_id_key("other", b"1")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/json", True),
        (b"Application/JSON ; charset=utf-8", True),
        (b"application/problem+json", True),
        (b"text/html", False),
        (b"application/jsonx", False),
        (b"", False),
    ],
)
def test_json_is_known_by_its_content_type(content_type: bytes, *, expected: bool) -> None:
    assert is_json(content_type) is expected


def test_only_bodies_that_may_hold_an_id_are_asked_for() -> None:
    kinds = (JSON, FORM + b";charset=utf-8", b"multipart/form-data; boundary=x", b"text/xml", b"")
    assert [READER.reads_body(kind) for kind in kinds] == [True, True, False, False, False]
    by_target = TransactionIdAffinity(type="transaction_id", answer_json=("/id",), request_query=("id",))
    assert not any(TransactionIdReader("otp", by_target).reads_body(kind) for kind in kinds)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/validate/polltransaction/17", "/validate/polltransaction/*"),
        ("/mfa/validate/polltransaction/17/", "/mfa/validate/polltransaction/*/"),
        ("/validate/polltransaction", "/validate/polltransaction"),
        ("/validate/check", "/validate/check"),
        ("/", "/"),
    ],
)
def test_a_path_is_shown_without_the_id_in_it(path: str, shown: str) -> None:
    assert READER.shown_path(path.encode()) == shown.encode()


@given(st.binary(max_size=100), st.sampled_from([JSON, FORM]), st.binary(max_size=100))
@settings(max_examples=200)
def test_bytes_of_any_kind_bring_an_id_or_none(target: bytes, content_type: bytes, body: bytes) -> None:
    key = READER.request_untrusted(target, content_type, body)
    assert key is None or len(key) == 16
    READER.response_untrusted(body)
    READER.shown_path(target)
