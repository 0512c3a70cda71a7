import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.wire.outcomes import outcome

from mfalb.errors import MalformedMessage
from mfalb.wire.json_pointer import JsonPointer, texts_untrusted

CHALLENGE = json.dumps(
    {
        "detail": {
            "transaction_id": "15388991524371704731",
            "transaction_ids": ["15388991524371704731", "09211837303629971911"],
            "multi_challenge": [{"transaction_id": "1"}, {"serial": "x"}, {"transaction_id": "2"}, "no table"],
        },
        "a/b": {"m~n": "escaped", "": "empty name"},
        "number": 17,
        "zero": 0,
        "float": 1.5,
        "true": True,
        "nothing": None,
        "empty": "",
    }
).encode()


@pytest.mark.parametrize(
    ("pointers", "texts"),
    [
        (["/detail/transaction_id"], ["15388991524371704731"]),
        (["/detail/transaction_ids/*"], ["15388991524371704731", "09211837303629971911"]),
        (["/detail/transaction_ids/1"], ["09211837303629971911"]),
        (["/detail/transaction_ids/01"], []),
        (["/detail/transaction_ids/2"], []),
        (["/detail/multi_challenge/*/transaction_id"], ["1", "2"]),
        (["/detail/transaction_id", "/detail/transaction_ids/*"], ["15388991524371704731", "09211837303629971911"]),
        (["/detail/transaction_ids/1", "/detail/transaction_id"], ["09211837303629971911", "15388991524371704731"]),
        (["/detail/*"], []),
        (["/detail"], []),
        (["/detail/transaction_id/0"], []),
        (["/a~1b/m~0n"], ["escaped"]),
        (["/a~1b/"], ["empty name"]),
        (["/number"], ["17"]),
        (["/zero"], ["0"]),
        (["/float", "/true", "/nothing", "/empty", "/missing"], []),
    ],
)
def test_texts_are_found_where_pointers_point(pointers: list[str], texts: list[str]) -> None:
    assert texts_untrusted(CHALLENGE, [JsonPointer.parse(one) for one in pointers]) == texts


@pytest.mark.parametrize("text", ["", "detail", "#/detail", "/a~2", "/a~", "/a\n", "/a" * 17])
def test_what_is_no_pointer_below_the_root_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a JSON pointer"):
        JsonPointer.parse(text)


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"\xff\xfe\xfd", b'{"a": 1}x', b"[" * 65_536, b'{"a": ' * 5000, b'{"a": ' + b"9" * 5000 + b"}"],
)
def test_what_is_no_json_is_malformed_however_deep_or_long(document: bytes) -> None:
    with pytest.raises(MalformedMessage, match="json"):
        texts_untrusted(document, [JsonPointer(("a",))])


def test_a_document_cut_anywhere_is_malformed() -> None:
    for end in range(len(CHALLENGE)):
        with pytest.raises(MalformedMessage):
            texts_untrusted(CHALLENGE[:end], [JsonPointer(("detail",))])


def test_no_more_than_sixteen_texts_come_out_of_one_document() -> None:
    document = json.dumps([str(number) for number in range(100)]).encode()
    assert texts_untrusted(document, [JsonPointer(("*",))]) == [str(number) for number in range(16)]


names = st.text(max_size=5)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)


@given(trees, st.lists(names | st.just("*") | st.just("0"), min_size=1, max_size=4))
def test_any_document_and_any_steps_give_texts_and_no_surprise(tree: object, steps: list[str]) -> None:
    texts = texts_untrusted(json.dumps(tree).encode(), [JsonPointer(tuple(steps))])
    assert all(isinstance(text, str) and text for text in texts)
    assert len(set(texts)) == len(texts)


@given(st.binary(max_size=50))
def test_bytes_of_any_kind_are_read_or_malformed(document: bytes) -> None:
    read = outcome(partial(texts_untrusted, pointers=[JsonPointer(("a",))]), document)
    assert read == "json" or isinstance(read, list)
