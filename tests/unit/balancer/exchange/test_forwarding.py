from __future__ import annotations

from ipaddress import ip_network

import pytest
from unit.balancer.exchange.http_world import request, response

from mfalb.balancer.config.http_models import Forwarding
from mfalb.balancer.exchange.forwarding import ClientFacts, RequestWriter, client_framing, is_trusted, response_bytes
from mfalb.wire.http_fields import Framing

CLIENT = ClientFacts("192.0.2.7", is_tls=True)
BELIEVED = ClientFacts("192.0.2.7", is_tls=True, is_trusted=True)
TRUSTED = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
CLAIMS = ("X-Forwarded-For: 10.1.1.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: inner", "Forwarded: for=10.1.1.1")


def fields(head: bytes) -> dict[str, str]:
    """Header lines of a finished head by lower-case name; a name that stands twice fails."""
    found: dict[str, str] = {}
    for line in head.decode("latin-1").split("\r\n")[1:-2]:
        name, _, value = line.partition(": ")
        assert name.lower() not in found, f"{name} stands twice"
        found[name.lower()] = value
    assert head.endswith(b"\r\n\r\n")
    return found


def test_a_stranger_s_forwarding_fields_are_replaced_by_what_is_known() -> None:
    seen = fields(RequestWriter(Forwarding()).head(request("Host: Outer:444", *CLAIMS), CLIENT))
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"], seen["x-forwarded-host"]) == (
        "192.0.2.7", "https", "Outer:444",
    )  # fmt: skip
    assert "forwarded" not in seen


def test_a_trusted_proxy_s_fields_are_kept_and_its_address_is_added() -> None:
    seen = fields(RequestWriter(Forwarding()).head(request("Host: outer", *CLAIMS), BELIEVED))
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"], seen["x-forwarded-host"]) == (
        "10.1.1.1, 192.0.2.7", "http", "inner",
    )  # fmt: skip


def test_a_trusted_proxy_that_says_nothing_is_the_client_itself() -> None:
    seen = fields(RequestWriter(Forwarding()).head(request("Host: outer"), BELIEVED))
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"], seen["x-forwarded-host"]) == (
        "192.0.2.7", "https", "outer",
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["X-Real-IP", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Port", "X-Forwarded-Prefix", "Forwarded"]
)
def test_fields_that_backends_may_obey_pass_from_trusted_proxies_only(name: str) -> None:
    asked = request("Host: outer", f"{name}: /elsewhere")
    assert name.lower() not in fields(RequestWriter(Forwarding()).head(asked, CLIENT))
    assert fields(RequestWriter(Forwarding()).head(asked, BELIEVED))[name.lower()] == "/elsewhere"


def test_a_field_that_cgi_programs_take_for_their_proxy_is_never_passed_on() -> None:
    asked = request("Host: outer", "Proxy: http://192.0.2.66/")
    assert "proxy" not in fields(RequestWriter(Forwarding()).head(asked, BELIEVED))


@pytest.mark.parametrize(
    ("address", "expected"),
    [("192.0.2.7", True), ("192.0.3.7", False), ("2001:db8::1", True), ("2001:db9::1", False), ("::1", False)],
)
def test_trust_goes_by_network_in_both_families(address: str, *, expected: bool) -> None:
    assert is_trusted(address, TRUSTED) is expected


def test_hop_by_hop_fields_and_those_that_connection_names_stay_behind() -> None:
    head = request(
        "Connection: X-Hop, keep-alive", "X-Hop: 1", "Keep-Alive: timeout=5", "TE: gzip",
        "Upgrade: websocket", "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic eDp5", "X-Kept: yes",
    )  # fmt: skip
    seen = fields(RequestWriter(Forwarding()).head(head, CLIENT))
    assert seen.keys() == {"host", "x-kept", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"}


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("Content-Length: 5", "content-length", "5"),
        ("Content-Length: 0", "content-length", "0"),
        ("Transfer-Encoding: chunked", "transfer-encoding", "chunked"),
    ],
)
def test_a_request_keeps_its_one_framing(line: str, name: str, value: str) -> None:
    seen = fields(RequestWriter(Forwarding()).head(request(line, method="POST"), CLIENT))
    assert seen[name] == value
    assert len(seen.keys() & {"content-length", "transfer-encoding"}) == 1


def test_an_empty_cookie_header_is_left_out() -> None:
    head = request("Cookie: a=b")
    head.special[b"cookie"] = b""
    assert "cookie" not in fields(RequestWriter(Forwarding()).head(head, CLIENT))


def test_an_absolute_target_goes_on_as_a_path_and_its_authority_as_host() -> None:
    sent = RequestWriter(Forwarding()).head(request("Host: named", target="http://named/a?b"), CLIENT)
    assert sent.startswith(b"GET /a?b HTTP/1.1\r\nHost: named\r\n")


@pytest.mark.parametrize(
    ("lines", "minor", "expected"),
    [
        (("Content-Length: 5",), 1, Framing.LENGTH),
        (("Content-Length: 5",), 0, Framing.LENGTH),
        (("Transfer-Encoding: chunked",), 1, Framing.CHUNKED),
        (("Transfer-Encoding: chunked",), 0, Framing.CLOSE),
        ((), 1, Framing.CHUNKED),
        ((), 0, Framing.CLOSE),
        (("Content-Length: 0",), 1, Framing.NONE),
    ],
)
def test_a_client_is_told_the_end_by_what_its_version_knows(
    lines: tuple[str, ...], minor: int, expected: Framing
) -> None:
    assert client_framing(response(*lines), minor) is expected


def test_an_answer_s_hop_by_hop_fields_stay_behind_and_its_encoding_passes() -> None:
    head = response(
        "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "Proxy-Authenticate: Basic", "Upgrade: h2",
        "Content-Encoding: gzip", "Content-Length: 5", "Set-Cookie: a=b",
    )  # fmt: skip
    seen = fields(response_bytes(head, Framing.LENGTH, b"X-Added: 1\r\n", b"close"))
    assert seen == {
        "content-encoding": "gzip", "content-length": "5", "set-cookie": "a=b", "x-added": "1", "connection": "close",
    }  # fmt: skip


@pytest.mark.parametrize(("status", "expected"), [("204 No Content", False), ("304 Not Modified", True)])
def test_a_length_is_told_with_304_and_never_with_204(status: str, *, expected: bool) -> None:
    head = response("Content-Length: 5", status=status)
    assert ("content-length" in fields(response_bytes(head, Framing.NONE, b"", b""))) is expected


# ------------------------------------------------------------------------------------ Forwarded, Via, Upgrade, TE


@pytest.mark.parametrize(
    ("client", "lines", "expected"),
    [
        (CLIENT, ("Host: outer",), 'for=192.0.2.7;proto=https;host="outer"'),
        (CLIENT, ("Host: outer:444",), 'for=192.0.2.7;proto=https;host="outer:444"'),
        (CLIENT, ("Host: outer", *CLAIMS), 'for=192.0.2.7;proto=https;host="outer"'),
        (BELIEVED, ("Host: outer", *CLAIMS), 'for=10.1.1.1, for=192.0.2.7;proto=https;host="outer"'),
        (ClientFacts("2001:db8::7", is_tls=False), ("Host: o",), 'for="[2001:db8::7]";proto=http;host="o"'),
    ],
    ids=["a name", "a name with a port", "a stranger's claim", "a trusted proxy's claim", "IPv6"],
)
def test_forwarded_tells_who_asked_as_rfc_7239_writes_it(
    client: ClientFacts, lines: tuple[str, ...], expected: str
) -> None:
    writer = RequestWriter(Forwarding(forwarded=True))
    assert fields(writer.head(request(*lines), client))["forwarded"] == expected


def test_a_1_0_client_without_a_host_is_forwarded_for_without_one() -> None:
    head = request(version="1.0")
    del head.special[b"host"]
    seen = fields(RequestWriter(Forwarding(forwarded=True)).head(head, CLIENT))
    assert seen["forwarded"] == "for=192.0.2.7;proto=https"


@pytest.mark.parametrize(
    ("via", "version", "lines", "expected"),
    [
        ("lb.test", "1.1", (), "1.1 lb.test"),
        ("lb.test", "1.0", (), "1.0 lb.test"),
        ("lb.test", "1.1", ("Via: 1.0 first",), "1.0 first, 1.1 lb.test"),
        ("lb.test", "1.1", ("Via: 1.0 first", "Via: 1.1 second"), "1.0 first, 1.1 second, 1.1 lb.test"),
        (None, "1.1", ("Via: 1.0 first",), "1.0 first"),
    ],
)
def test_our_name_in_via_stands_last_behind_the_version_that_came(
    via: str | None, version: str, lines: tuple[str, ...], expected: str
) -> None:
    head = request(*lines, version=version)
    assert fields(RequestWriter(Forwarding(via=via)).head(head, CLIENT))["via"] == expected


def test_nobody_gives_a_name_in_via_without_one() -> None:
    assert "via" not in fields(RequestWriter(Forwarding()).head(request(), CLIENT))


@pytest.mark.parametrize(
    ("lines", "ours", "expected"),
    [
        ((), b"lb", "1.1 lb"),
        (("Via: 1.0 a",), b"lb", "1.0 a, 1.1 lb"),
        (("Via: 1.0 a",), b"", "1.0 a"),
        ((), b"", None),
    ],
)
def test_answers_tell_the_way_that_they_came_too(lines: tuple[str, ...], ours: bytes, expected: str | None) -> None:
    seen = fields(response_bytes(response("Content-Length: 5", *lines), Framing.LENGTH, b"", b"", ours))
    assert seen.get("via") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("websocket", "websocket"),
        ("websocket, h2c", "websocket"),
        ("H2C,websocket ,TLS/1.0", "websocket"),
        ("h2c", None),
        ("HTTP/2.0, tls/1.2", None),
    ],
)
def test_an_upgrade_goes_on_but_never_to_http_2_or_tls_that_nobody_here_would_read(
    value: str, expected: str | None
) -> None:
    head = request("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {value}", "HTTP2-Settings: AAMAAABk")
    seen = fields(RequestWriter(Forwarding()).head(head, CLIENT))
    assert (seen.get("upgrade"), seen.get("connection")) == (expected, expected and "upgrade")
    assert "http2-settings" not in seen


def test_of_te_only_trailers_goes_on() -> None:
    seen = fields(RequestWriter(Forwarding()).head(request("Connection: TE", "TE: gzip, Trailers"), CLIENT))
    assert (seen["te"], seen["connection"]) == ("trailers", "TE")
