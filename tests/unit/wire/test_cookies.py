import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfalb.wire.cookies import find_cookie, set_cookie, without_cookie

NAME = b"mfalb"


@pytest.mark.parametrize(
    ("header", "value", "rest"),
    [
        (b"", None, b""),
        (b"mfalb=x", b"x", b""),
        (b"a=b; mfalb=x; c=d", b"x", b"a=b; c=d"),
        (b"a=b;mfalb=x;c=d", b"x", b"a=b; c=d"),
        (b" mfalb = x ", b"x", b""),
        (b'mfalb="x"', b"x", b""),
        (b"mfalb=", b"", b""),
        (b"mfalb=a=b=", b"a=b=", b""),
        (b"mfalb=first; mfalb=second", b"first", b""),
        (b"mfalb2=x", None, b"mfalb2=x"),
        (b"xmfalb=x", None, b"xmfalb=x"),
        (b"MFALB=x", None, b"MFALB=x"),
        (b"MFALB=x; mfalb=y", b"y", b"MFALB=x"),
        (b"a=mfalb", None, b"a=mfalb"),
        (b"a=mfalb=x; b=c", None, b"a=mfalb=x; b=c"),
        (b"mfalb", None, b""),
        (b"a=b; ; c", None, b"a=b; ; c"),
    ],
)
def test_a_cookie_is_found_by_its_whole_name_and_taken_out(header: bytes, value: bytes | None, rest: bytes) -> None:
    assert find_cookie(header, NAME) == value
    assert without_cookie(header, NAME) == rest


names = st.text("abcm", min_size=1, max_size=3).map(str.encode)
cookie_values = st.text("xyz=+/-_", max_size=5).map(str.encode)


@given(st.lists(st.tuples(names, cookie_values), max_size=6), names)
@settings(max_examples=200)
def test_taking_a_cookie_out_leaves_all_others_in_their_order(pairs: list[tuple[bytes, bytes]], name: bytes) -> None:
    header = b"; ".join(key + b"=" + value for key, value in pairs)
    assert find_cookie(header, name) == next((value for key, value in pairs if key == name), None)
    rest = without_cookie(header, name)
    assert rest == b"; ".join(key + b"=" + value for key, value in pairs if key != name)
    assert find_cookie(rest, name) is None


@given(st.binary(max_size=80))
@settings(max_examples=200)
def test_no_header_raises_or_keeps_the_cookie(header: bytes) -> None:
    header = header.replace(b"x", b"mfalb=")
    find_cookie(header, NAME)
    assert find_cookie(without_cookie(header, NAME), NAME) is None


def test_a_cookie_is_set_for_browsers_only_and_over_tls_only_there() -> None:
    assert set_cookie("mfalb", "v", "/", is_secure=True) == b"mfalb=v; Path=/; HttpOnly; SameSite=Lax; Secure"
    assert set_cookie("mfalb", "v", "/a", is_secure=False) == b"mfalb=v; Path=/a; HttpOnly; SameSite=Lax"
