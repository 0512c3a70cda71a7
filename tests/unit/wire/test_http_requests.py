import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.wire.http_streams import RequestScribe, Transcript, cut_lists, every_cut, read_requests, streams

from mfalb.wire.http import RequestReader
from mfalb.wire.http_fields import REQUEST_SPECIAL, FieldReader, Framing
from mfalb.wire.http_heads import RequestHead

NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"


def request(fields: bytes = b"", body: bytes = b"", *, line: bytes = b"POST /a HTTP/1.1") -> bytes:
    """A request to host h with these further header lines."""
    return line + b"\r\nHost: h\r\n" + fields + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"
UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket\r\n"

# (bytes, first line as understood, framing, keep-alive, body)
ACCEPTED: list[tuple[bytes, str, Framing, bool, bytes]] = [
    (request(), "POST /a 1.1", Framing.NONE, True, b""),
    (b"\r\n\r\n" + request(), "POST /a 1.1", Framing.NONE, True, b""),
    (request(b"Content-Length: 0\r\n"), "POST /a 1.1", Framing.NONE, True, b""),
    (request(b"Content-Length: 3\r\n", b"abc"), "POST /a 1.1", Framing.LENGTH, True, b"abc"),
    (request(b"content-length:\t03 \t\r\n", b"abc"), "POST /a 1.1", Framing.LENGTH, True, b"abc"),
    (request(CHUNKED, b"0\r\n\r\n"), "POST /a 1.1", Framing.CHUNKED, True, b""),
    (
        request(CHUNKED, b"1\r\na\r\n00A\r\n0123456789\r\n0\r\n\r\n"),
        "POST /a 1.1",
        Framing.CHUNKED,
        True,
        b"a0123456789",
    ),
    (request(CHUNKED, b"1;x=y\r\na\r\n0;z\r\nTrailer: gone\r\n\r\n"), "POST /a 1.1", Framing.CHUNKED, True, b"a"),
    (request(b"Transfer-Encoding: \tChunked \r\n", b"0\r\n\r\n"), "POST /a 1.1", Framing.CHUNKED, True, b""),
    (request(b"Content-Length: 1\r\n", b"a", line=b"GET /a HTTP/1.1"), "GET /a 1.1", Framing.LENGTH, True, b"a"),
    (request(line=b"HEAD /a?b=c HTTP/1.1"), "HEAD /a?b=c 1.1", Framing.NONE, True, b""),
    (request(b"Connection: close\r\n"), "POST /a 1.1", Framing.NONE, False, b""),
    (request(b"Connection: x, CLOSE\r\n"), "POST /a 1.1", Framing.NONE, False, b""),
    (request(b"Connection: keep-alive\r\n"), "POST /a 1.1", Framing.NONE, True, b""),
    (request(line=b"GET /a HTTP/1.0"), "GET /a 1.0", Framing.NONE, False, b""),
    (b"GET /a HTTP/1.0\r\n\r\n", "GET /a 1.0", Framing.NONE, False, b""),
    (request(b"Connection: Keep-Alive\r\n", line=b"GET /a HTTP/1.0"), "GET /a 1.0", Framing.NONE, True, b""),
    (request(b"Content-Length: 1\r\n", b"a", line=b"POST /a HTTP/1.0"), "POST /a 1.0", Framing.LENGTH, False, b"a"),
    (request(line=b"VERSION-CONTROL /a HTTP/1.1"), "VERSION-CONTROL /a 1.1", Framing.NONE, True, b""),
    (request(line=b"OPTIONS * HTTP/1.1"), "OPTIONS * 1.1", Framing.NONE, True, b""),
    (request(line=b"GET HTTPS://H:443/a?b HTTP/1.1"), "GET /a?b 1.1", Framing.NONE, True, b""),
    (request(line=b"GET http://h HTTP/1.1"), "GET / 1.1", Framing.NONE, True, b""),
    (request(UPGRADE), "POST /a 1.1", Framing.NONE, True, b""),
    (request(UPGRADE + b"Content-Length: 0\r\n"), "POST /a 1.1", Framing.NONE, True, b""),
    (request(b"Upgrade: h2c\r\nContent-Length: 1\r\n", b"a"), "POST /a 1.1", Framing.LENGTH, True, b"a"),
]

# (bytes, reason); each of them must be refused before it is told, or in its body
REFUSED: dict[str, list[tuple[bytes, str]]] = {
    "content length": [
        (request(b"Content-Length:\r\n"), "content_length"),
        (request(b"Content-Length: +1\r\n", b"a"), "content_length"),
        (request(b"Content-Length: -1\r\n", b"a"), "content_length"),
        (request(b"Content-Length: 0x1\r\n", b"a"), "content_length"),
        (request(b"Content-Length: 1_0\r\n", b"a" * 10), "content_length"),
        (request(b"Content-Length: 1,1\r\n", b"a"), "content_length"),
        (request(b"Content-Length: 1, 1\r\n", b"a"), "content_length"),
        (request(b"Content-Length: 1 1\r\n", b"a"), "content_length"),
        (request(b"Content-Length: \x0b1\r\n", b"a"), "control_byte"),
        (request(b"Content-Length: \xb2\r\n", b"aa"), "content_length"),
        (request(b"Content-Length: 18446744073709551617\r\n", b"a"), "content_length"),
        (request(b"Content-Length: 0000000000000000001\r\n", b"a"), "content_length"),
        (request(b"Content-Length: 1\r\nContent-Length: 1\r\n", b"a"), "repeated_content_length"),
        (request(b"Content-Length: 1\r\ncontent-length: 2\r\n", b"a"), "repeated_content_length"),
        (request(b"Content_Length: 1\r\n"), "underscore_in_field_name"),
    ],
    "transfer encoding": [
        (request(CHUNKED + b"Content-Length: 1\r\n", b"0\r\n\r\n"), "length_and_chunked"),
        (request(b"Content-Length: 1\r\n" + CHUNKED, b"0\r\n\r\n"), "length_and_chunked"),
        (request(CHUNKED + CHUNKED, b"0\r\n\r\n"), "repeated_transfer_encoding"),
        (request(b"Transfer-Encoding: identity\r\n" + CHUNKED, b"0\r\n\r\n"), "repeated_transfer_encoding"),
        (request(b"Transfer-Encoding: ,chunked\r\n", b"0\r\n\r\n"), "transfer_encoding"),
        (request(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), "transfer_encoding"),
        (request(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"), "transfer_encoding"),
        (request(b"Transfer-Encoding: xchunked\r\n"), "transfer_encoding"),
        (request(b"Transfer-Encoding: identity\r\n"), "transfer_encoding"),
        (request(b"Transfer-Encoding:\r\n"), "transfer_encoding"),
        (request(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"), "control_byte"),
        (request(b"Transfer-Encoding: chunked\x0c\r\n", b"0\r\n\r\n"), "control_byte"),
        (request(b"Transfer_Encoding: chunked\r\n", b"0\r\n\r\n"), "underscore_in_field_name"),
        (request(CHUNKED, b"0\r\n\r\n", line=b"POST /a HTTP/1.0"), "chunked_in_1_0"),
    ],
    "chunks": [
        (request(CHUNKED, size + b"\r\na\r\n0\r\n\r\n"), "bare_lf" if b"\n" in size else "chunk_size")
        for size in (b"0x1", b"+1", b"-1", b"1_", b" 1", b"1 ", b"\t1", b"g", b"", b"1;a\rb", b"1;a\nb", b"1\n", b"1\r")
    ]
    + [
        (request(CHUNKED, b"FFFFFFFFFFFFFFFFF\r\n"), "chunk_size"),
        (request(CHUNKED, b"1\r\na\r\n\r\n0\r\n\r\n"), "chunk_size"),
        (request(CHUNKED, b"1\r\na0\r\n\r\n"), "chunk_end"),
        (request(CHUNKED, b"1\r\na\n0\r\n\r\n"), "chunk_end"),
        (request(CHUNKED, b"1\nab0\r\n\r\n"), "bare_lf"),
        (request(CHUNKED, b"0\r\nContent-Length: 5\r\n\r\n"), "trailer"),
        (request(CHUNKED, b"0\r\nTransfer-Encoding: chunked\r\n\r\n"), "trailer"),
        (request(CHUNKED, b"0\r\nno colon\r\n\r\n"), "no_colon"),
    ],
    "framing bytes": [
        (b"GET / HTTP/1.1\nHost: h\n\n", "bare_lf"),
        (b"GET / HTTP/1.1\r\nHost: h\n\r\n", "bare_lf"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\n", "bare_lf"),
        (b"GET / HTTP/1.1\rHost: h\r\r", "bare_cr"),
        (request(b"X: a\rb\r\n"), "bare_cr"),
        (request(b"X: a\0b\r\n"), "control_byte"),
        (request(b"X: a\x01b\r\n"), "control_byte"),
        (request(b"X: a\x7fb\r\n"), "control_byte"),
        (request(b"X\r\n"), "no_colon"),
        (request(b": y\r\n"), "field_name"),
        (request(b"X : y\r\n"), "field_name"),
        (request(b"X\x01: y\r\n"), "field_name"),
        (request(b"X: y\r\n z\r\n"), "obs_fold"),
        (b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", "obs_fold"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\tevil\r\n\r\n", "obs_fold"),
    ],
    "request line": [
        (request(line=b"GET / HTTP/1.2"), "http_version"),
        (request(line=b"GET / HTTP/2.0"), "http_version"),
        (request(line=b"GET / HTTP/0.9"), "http_version"),
        (b"GET /\r\n\r\n", "request_line"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http_version"),
        (request(line=b"GET / HTTP/1.01"), "request_line"),
        (request(line=b"GET / http/1.1"), "request_line"),
        (request(line=b"GET / HTTP/1.1 "), "request_line"),
        (request(line=b"GET\t/ HTTP/1.1"), "method"),
        (request(line=b"GET /a b HTTP/1.1"), "request_line"),
        (request(line=b"GET /\xff HTTP/1.1"), "request_line"),
        (request(line=b"GET /\x01 HTTP/1.1"), "request_line"),
        (request(line=b"get / HTTP/1.1"), "method"),
        (request(line=b"CONNECT h:443 HTTP/1.1"), "connect"),
        (request(line=b"CONNECT / HTTP/1.1"), "connect"),
        (request(line=b"GET * HTTP/1.1"), "target"),
        (request(line=b"GET h:443 HTTP/1.1"), "target"),
        (request(line=b"GET a HTTP/1.1"), "target"),
        (request(line=b"GET ftp://h/ HTTP/1.1"), "target"),
        (request(line=b"GET http:///a HTTP/1.1"), "target"),
        (request(line=b"GET http://user@h/ HTTP/1.1"), "target"),
        (request(line=b"GET http://h?a HTTP/1.1"), "target"),
        (request(line=b"GET http://h%2f/ HTTP/1.1"), "host"),
        (b"\x16\x03\x01\x02\x00\x01", "method"),
    ],
    "host": [
        (b"GET / HTTP/1.1\r\n\r\n", "no_host"),
        (b"GET http://h/ HTTP/1.1\r\n\r\n", "no_host"),
        (request(line=b"GET http://other/ HTTP/1.1"), "host_mismatch"),
        (request(line=b"GET http://h:8080/ HTTP/1.1"), "host_mismatch"),
        (request(b"Host: h\r\n"), "repeated_host"),
        (request(b"host: other\r\n"), "repeated_host"),
        *((b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host, "host") for host in (b"a b", b"a/b", b"a@b", b"a,b", b"\xe4")),
    ],
    "upgrade": [
        (request(UPGRADE + b"Content-Length: 1\r\n", b"a"), "upgrade_with_body"),
        (request(UPGRADE + CHUNKED, b"0\r\n\r\n"), "upgrade_with_body"),
    ],
}
ALL_REFUSED = [case for group in REFUSED.values() for case in group]


@pytest.mark.parametrize(("data", "first", "framing", "is_keep_alive", "body"), ACCEPTED)
def test_a_request_is_understood_however_it_is_cut(
    data: bytes, first: str, framing: Framing, is_keep_alive: bool, body: bytes
) -> None:
    for cuts in every_cut(data):
        read = read_requests(data, cuts)
        assert read.fault == ""
        (told,) = read.messages
        assert (told.first, told.framing, told.is_keep_alive, told.body) == (first, framing, is_keep_alive, body)
        assert told.is_ended


@pytest.mark.parametrize("data", [data for data, *_ in ACCEPTED])
def test_a_request_that_stops_anywhere_is_neither_ended_nor_refused(data: bytes) -> None:
    for length in range(len(data)):
        read = read_requests(data[:length])
        assert read.fault == ""
        assert not any(message.is_ended for message in read.messages)


@pytest.mark.parametrize("data", [data for data, *_, is_keep_alive, _ in ACCEPTED if is_keep_alive])
def test_a_pipelined_successor_is_read_as_a_message_of_its_own(data: bytes) -> None:
    alone = read_requests(data).messages
    together = data + NEXT
    for cuts in ((), (len(data),), (len(data) - 1, len(data) + 1), range(1, len(together))):
        read = read_requests(together, cuts)
        assert read.messages[:1] == alone
        assert read.firsts[1:] == ["GET /next 1.1"]
        assert read.fault == ""


@pytest.mark.parametrize("data", [data for data, *_, is_keep_alive, _ in ACCEPTED if not is_keep_alive])
def test_nothing_is_read_behind_a_request_that_ends_its_connection(data: bytes) -> None:
    read = read_requests(data + NEXT)
    assert (len(read.messages), read.fault) == (1, "")


@pytest.mark.parametrize("connection", [b"keep-alive, close", b"close, keep-alive", b"not-close", b"close,"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_connection_ends_when_in_doubt(version: bytes, connection: bytes) -> None:
    data = request(b"Connection: %b\r\n" % connection, line=b"GET / HTTP/" + version)
    assert not read_requests(data).messages[0].is_keep_alive


@pytest.mark.parametrize(("data", "reason"), ALL_REFUSED)
def test_what_could_be_read_in_two_ways_is_refused_however_it_is_cut(data: bytes, reason: str) -> None:
    for cuts in every_cut(data):
        read = read_requests(data + NEXT, cuts)
        assert read.fault == reason
        assert not any(message.is_ended for message in read.messages)


@pytest.mark.parametrize(
    ("fields", "passed"),
    [
        (b"X-A: 1\r\nx-b:2 \r\n", (b"X-A: 1\r\n", b"x-b: 2\r\n")),
        (b"X-A: 1\r\nX-A: 2\r\n", (b"X-A: 1\r\n", b"X-A: 2\r\n")),
        (b"X-A: \xff\r\n", (b"X-A: \xff\r\n",)),
        (b"Empty:\r\n", (b"Empty: \r\n",)),
        (b"Keep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\nUpgrade: h2c\r\n", ()),
        (b"Connection: X-A, , x-b\r\nX-A: 1\r\nX-B: 2\r\nX-AB: 3\r\n", (b"X-AB: 3\r\n",)),
        (b"X-A: 1\r\nConnection: keep-alive\r\nConnection: X-A\r\n", ()),
        (b"Connection: , ,\r\nX-A: 1\r\n", (b"X-A: 1\r\n",)),
        (b"Connection: close\r\nClose: 1\r\n", (b"Close: 1\r\n",)),
        (b"Proxy-Authorization: Basic x\r\nForwarded: for=x\r\nX-Forwarded-For: x\r\n", ()),
        (b"X-Real-IP: 10.0.0.1\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n", ()),
    ],
)
def test_end_to_end_fields_pass_as_they_came_and_others_stay_behind(fields: bytes, passed: tuple[bytes, ...]) -> None:
    (told,) = read_requests(request(fields)).messages
    assert told.lines == passed


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        (b"COOKIE: a=b\r\nCookie: c=d\r\n", b"cookie", b"a=b; c=d"),
        (b"X-Forwarded-For: a\r\nX-Forwarded-For: b\r\n", b"x-forwarded-for", b"a, b"),
        (b"Connection: cookie\r\nCookie: a=b\r\n", b"cookie", b"a=b"),
        (b"Expect:  100-continue \t\r\n", b"expect", b"100-continue"),
    ],
)
def test_fields_that_a_proxy_must_understand_are_gathered_by_name(fields: bytes, name: bytes, value: bytes) -> None:
    (told,) = read_requests(request(fields)).messages
    assert told.special[name] == value


@pytest.mark.parametrize(
    "name",
    [b"X_Forwarded_For", b"x-forwarded_proto", b"X_Forwarded-Host", b"Content_Type", b"ACCEPT_ENCODING", b"Keep_Alive"],
)
def test_a_twin_of_a_field_that_the_balancer_writes_itself_is_refused(name: bytes) -> None:
    assert read_requests(request(name + b": 10.0.0.1\r\n")).fault == "underscore_in_field_name"


@pytest.mark.parametrize(
    ("line", "fields", "host"),
    [
        (b"GET / HTTP/1.1", b"Host: MFA.Contoso.com:443 \r\n", b"mfa.contoso.com"),
        (b"GET / HTTP/1.1", b"Host: [2001:DB8::1]:443\r\n", b"[2001:db8::1]"),
        (b"GET / HTTP/1.1", b"Host:\r\n", b""),
        (b"GET / HTTP/1.0", b"", b""),
        (b"GET http://Other:8443/a HTTP/1.1", b"Host: other:8443\r\n", b"other"),
        (b"GET http://other/a HTTP/1.0", b"", b"other"),
        (b"OPTIONS * HTTP/1.1", b"Host: h\r\n", b"h"),
    ],
)
def test_the_host_is_that_of_the_target_or_else_of_the_field_without_its_port(
    line: bytes, fields: bytes, host: bytes
) -> None:
    assert [head.host for head in heads_of(line + b"\r\n" + fields + b"\r\n")] == [host]


def heads_of(said: bytes) -> list[RequestHead]:
    heads: list[RequestHead] = []

    class Heads(RequestScribe):
        def request_head(self, head: RequestHead) -> None:
            heads.append(head)

        def request_end(self, trailers: list[bytes]) -> None: ...

    RequestReader(Heads(Transcript()), header_bytes=1000).feed_untrusted(said)
    return heads


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a/b", b"/a/b"),
        (b"/a?b=c", b"/a"),
        (b"/?b?c", b"/"),
        (b"http://h/a?b=/c", b"/a"),
        (b"http://h", b"/"),
    ],
)
def test_the_path_is_the_target_without_its_query_also_when_the_line_is_known(target: bytes, path: bytes) -> None:
    said = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % target
    assert [head.path for head in heads_of(said) + heads_of(said)] == [path, path]


def test_a_bad_host_is_refused_as_soon_as_its_line_is_complete() -> None:
    assert read_requests(b"GET / HTTP/1.1\r\nHost: a@b\r\nX: not yet").fault == "host"


FRAGMENTS = (
    b"GET / HTTP/1.1\r\n", b"POST /a HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n", b"GET ", b"http://h/ ", b"HTTP/1.1\r\n",
    b"Host: h\r\n", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", CHUNKED, UPGRADE, b"Connection: close\r\n",
    b"X: y\r\n", b"\r\n", b"\r\n\r\n", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\n", request(), NEXT,
    request(CHUNKED, b"3\r\nabc\r\n0\r\n\r\n"), request(UPGRADE), request(b"Content-Length: 3\r\n", b"abc"),
)  # fmt: skip


@given(streams(*FRAGMENTS), cut_lists)
@settings(max_examples=200)
@example(request(UPGRADE) + NEXT, [3, 80, 81])
def test_what_is_told_does_not_depend_on_the_cuts(data: bytes, cuts: list[int]) -> None:
    assert read_requests(data, cuts) == read_requests(data)


@given(st.binary(max_size=300), cut_lists)
@settings(max_examples=100)
def test_any_bytes_are_read_or_malformed_and_nothing_else(data: bytes, cuts: list[int]) -> None:
    assert read_requests(data, cuts) == read_requests(data)


def test_many_upgrade_requests_in_one_read_are_ordinary_requests() -> None:
    read = read_requests(request(UPGRADE) * 3000)
    assert (len(read.messages), read.fault) == (3000, "")


def test_a_bug_of_the_one_who_listens_is_not_taken_for_a_fault_of_the_peer() -> None:
    class Broken(RequestScribe):
        def request_head(self, head: RequestHead) -> None:
            raise ZeroDivisionError(head.target)

    with pytest.raises(ZeroDivisionError):
        RequestReader(Broken(Transcript()), header_bytes=1000).feed_untrusted(request())


# --------------------------------------------------------------------------------- fields that stay behind


OURS = FieldReader(REQUEST_SPECIAL | {b"x-who"}, is_for_requests=True, refuses_underscores=False)


def test_fields_that_the_balancer_makes_stay_behind_and_their_twins_are_refused() -> None:
    data = request(b"X-Who: me\r\nx-WHO: myself\r\nX-Whole: kept\r\nother_name: kept\r\n")
    for cuts in every_cut(data):
        (told,) = read_requests(data, cuts, fields=OURS).messages
        assert told.lines == (b"X-Whole: kept\r\n", b"other_name: kept\r\n")
    for twin in (b"X_Who", b"x_who"):
        assert read_requests(request(twin + b": me\r\n"), fields=OURS).fault == "underscore_in_field_name"


def test_fields_that_the_balancer_makes_stay_behind_in_trailers_too() -> None:
    data = request(CHUNKED, b"1\r\na\r\n0\r\nX-Who: me\r\nX_wHO: me\r\nX-Whole: kept\r\n\r\n")
    for cuts in every_cut(data):
        (told,) = read_requests(data, cuts, fields=OURS).messages
        assert told.trailers == [b"X-Whole: kept\r\n"]
        assert told.is_ended
    assert len(read_requests(data).messages[0].trailers) == 3, "where nobody makes them"
