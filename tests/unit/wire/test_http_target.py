import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.wire.outcomes import outcome

from mfalb.errors import MalformedMessage
from mfalb.wire.http_target import (
    host_without_port,
    origin_form_untrusted,
    refuse_bad_host,
    routing_path_untrusted,
)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", b"/"),
        (b"/A/b.ASMX?x=/../#", "fragment"),
        (b"/A/b.ASMX?x=/../y", b"/a/b.asmx"),
        (b"/%4dfa//x", b"/mfa/x"),
        (b"/a%20b", b"/a b"),
        (b"//a///b", b"/a/b"),
        (b"/a\\b", b"/a/b"),
        (b"/a/.hidden/..b/c..", b"/a/.hidden/..b/c.."),
        (b"/a;p=1/b", b"/a;p=1/b"),
        (b"*", b"/"),
        (b"/a/../b", "dot_segments"),
        (b"/a/..", "dot_segments"),
        (b"/./a", "dot_segments"),
        (b"/a/.", "dot_segments"),
        (b"/a/%2e%2E/b", "dot_segments"),
        (b"/a/.%2e/b", "dot_segments"),
        (b"/%4dfa/%2Fx", "encoded_slash"),
        (b"/a%5Cb", "encoded_slash"),
        (b"/a%00b", "encoded_control_byte"),
        (b"/a%0d%0aX:1", "encoded_control_byte"),
        (b"/a%7Fb", "encoded_control_byte"),
        (b"/a%2f..%2fb", "dot_segments"),
        (b"/a\\..\\b", "dot_segments"),
        (b"/a%5c..%5cb", "dot_segments"),
        (b"/a%5c%2e%2e/b", "dot_segments"),
        (b"/a/..;/b", "dot_segments"),
        (b"/a/..;x=y/b", "dot_segments"),
        (b"/a/%2e%2e%3b/b", "dot_segments"),
        (b"/a#/../b", "fragment"),
        (b"/a?b#c", "fragment"),
        (b"/a/%u002e%u002e/b", "percent_encoding"),
        (b"/a%", "percent_encoding"),
        (b"/a%2", "percent_encoding"),
        (b"/a%zz", "percent_encoding"),
        (b"/a?b=%zz", b"/a"),
    ],
)
def test_a_path_is_routed_as_a_backend_resolves_it_or_not_at_all(target: bytes, path: bytes | str) -> None:
    assert outcome(routing_path_untrusted, target) == path


@given(
    st.lists(st.sampled_from((b"/", b".", b"%2e", b"%2F", b"\\", b"%5C", b";", b"a", b"A", b"?", b"%", b"#"))).map(
        b"".join
    )
)
@settings(max_examples=200)
def test_no_routing_path_has_a_segment_that_leads_elsewhere(rest: bytes) -> None:
    path = outcome(routing_path_untrusted, b"/" + rest)
    if isinstance(path, bytes):
        segments = [segment.partition(b";")[0] for segment in path.split(b"/")]
        assert not {b".", b".."} & set(segments)
        assert b"" not in path[1:].split(b"/")[:-1]
        assert path == path.lower()


@given(st.binary(max_size=60))
@settings(max_examples=100)
def test_any_target_has_a_path_or_is_malformed(target: bytes) -> None:
    assert isinstance(outcome(routing_path_untrusted, target), (bytes, str))
    try:
        path, _ = origin_form_untrusted(b"GET", target)
    except MalformedMessage:
        return
    assert path.startswith(b"/")


@pytest.mark.parametrize(
    ("method", "target", "read"),
    [
        (b"OPTIONS", b"*", (b"*", b"")),
        (b"GET", b"http://h/a?b", (b"/a?b", b"h")),
        (b"GET", b"HTTPS://[::1]:443", (b"/", b"[::1]:443")),
        (b"OPTIONS", b"http://h", (b"*", b"h")),
        (b"OPTIONS", b"http://h/", (b"/", b"h")),
        (b"GET", b"*", "target"),
        (b"GET", b"h:443", "target"),
        (b"GET", b"ws://h/", "target"),
        (b"GET", b"http://", "target"),
        (b"GET", b"http:///a", "target"),
        (b"GET", b"http://u:p@h/", "target"),
        (b"GET", b"http://h?a=/", "target"),
    ],
)
def test_an_absolute_target_is_its_path_and_its_authority(
    method: bytes, target: bytes, read: tuple[bytes, bytes] | str
) -> None:
    assert outcome(lambda data: origin_form_untrusted(method, data), target) == read


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"h", b"h"),
        (b"h:443", b"h"),
        (b"10.0.0.1:80", b"10.0.0.1"),
        (b"[2001:db8::1]", b"[2001:db8::1]"),
        (b"[2001:db8::1]:443", b"[2001:db8::1]"),
        (b"under_score.local:1", b"under_score.local"),
        (b"", b""),
    ],
)
def test_a_host_is_known_without_its_port(authority: bytes, host: bytes) -> None:
    refuse_bad_host(authority)
    assert host_without_port(authority) == host


@pytest.mark.parametrize("octet", b" \t/\\@?#,;\"'<>%\0\x7f\xe4")
def test_a_host_with_a_character_that_no_host_has_is_refused(octet: int) -> None:
    with pytest.raises(MalformedMessage, match="host"):
        refuse_bad_host(b"mfa" + bytes((octet,)) + b"contoso.com")
