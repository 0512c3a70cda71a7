from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfalb.wire.form_fields import form_fields

WANTED = (b"transaction_id", b"state")


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (b"transaction_id=17", {b"transaction_id": b"17"}),
        (b"user=alice&pass=x&transaction_id=17", {b"transaction_id": b"17"}),
        (b"transaction_id=17&transaction_id=18", {b"transaction_id": b"17"}),
        (b"state=1&transaction_id=2", {b"state": b"1", b"transaction_id": b"2"}),
        (b"transaction%5Fid=a%20b+c%2bd", {b"transaction_id": b"a b c+d"}),
        (b"transaction_id=a=b", {b"transaction_id": b"a=b"}),
        (b"transaction_id=", {b"transaction_id": b""}),
        (b"transaction_id", {b"transaction_id": b""}),
        (b"transaction_id=%zz%4", {b"transaction_id": b"%zz%4"}),
        (b"transaction_id=%ff\xfe", {b"transaction_id": b"\xff\xfe"}),
        (b"Transaction_Id=17&xtransaction_id=18", {}),
        (b"&&&transaction_id=17", {b"transaction_id": b"17"}),
        (b"&" * 255 + b"transaction_id=17", {b"transaction_id": b"17"}),
        (b"&" * 256 + b"transaction_id=17", {}),
        (b"", {}),
    ],
)
def test_wanted_fields_are_read_as_servers_read_them(data: bytes, fields: dict[bytes, bytes]) -> None:
    assert form_fields(data, WANTED) == fields


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=5))
def test_what_another_encoder_wrote_is_read(fields: dict[str, str]) -> None:
    wanted = {name.encode(): value.encode() for name, value in fields.items()}
    assert form_fields(urlencode(fields, quote_via=quote_plus).encode(), wanted.keys()) == wanted


@given(st.binary(max_size=100))
def test_any_bytes_are_a_form(data: bytes) -> None:
    assert set(form_fields(data, WANTED)) <= set(WANTED)
