import pickle
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from mfalb.balancer.config import values
from mfalb.balancer.config.values import Address, Origin, Secret, quoted, seconds_text, size_text

FROM_FILE = Origin(Path("/etc/mfalb"))


def read(kind: Any, value: object, context: Origin | None = FROM_FILE) -> Any:
    return TypeAdapter(kind).validate_python(value, context=context)


def complaint(kind: Any, value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        read(kind, value)
    return str(caught.value.errors()[0]["msg"]).removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("written", "seconds"), [("500ms", 0.5), ("5s", 5.0), ("2m", 120.0), ("1h", 3600.0), ("1.5s", 1.5), ("1ms", 0.001)]
)
def test_a_duration_is_read_in_seconds(written: str, seconds: float) -> None:
    assert read(values.Seconds, written) == seconds


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (5, "5 has no unit; write 500ms, 5s, 5m or 5h"),
        (2.5, "2.5 has no unit; write 500ms, 2.5s, 2.5m or 2.5h"),
        ("5", "'5' is no duration; write a number and its unit: 500ms, 5s, 2m or 1h"),
        ("5 s", "'5 s' is no duration; write a number and its unit: 500ms, 5s, 2m or 1h"),
        ("5d", "'5d' is no duration; write a number and its unit: 500ms, 5s, 2m or 1h"),
        ("-5s", "'-5s' is no duration; write a number and its unit: 500ms, 5s, 2m or 1h"),
        ("\u0665s", "'\u0665s' is no duration; write a number and its unit: 500ms, 5s, 2m or 1h"),
        (None, "an empty value is no duration; write a number and its unit: 500ms, 5s, 2m or 1h"),
        ([], "a table or list is no duration; write a number and its unit: 500ms, 5s, 2m or 1h"),
        ("0s", "'0s' is too short; write at least 1ms"),
        ("0.9ms", "'0.9ms' is too short; write at least 1ms"),
    ],
)
def test_what_is_no_duration_is_refused_with_what_to_write(written: object, message: str) -> None:
    assert complaint(values.Seconds, written) == message


def test_python_callers_give_durations_and_sizes_as_plain_numbers() -> None:
    assert (read(values.Seconds, 5, context=None), read(values.SizeBytes, 100, context=None)) == (5.0, 100)


@given(st.integers(min_value=1, max_value=10**9))
def test_a_duration_survives_writing_and_reading(milliseconds: int) -> None:
    assert read(values.Seconds, seconds_text(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("written", "size_bytes"), [("512B", 512), ("64KiB", 65_536), ("1MiB", 2**20), ("2GiB", 2**31)]
)
def test_a_size_is_read_in_bytes_and_written_back(written: str, size_bytes: int) -> None:
    assert read(values.SizeBytes, written) == size_bytes
    assert size_text(size_bytes) == written


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (64, "64 has no unit; write 64B, 64KiB or 64MiB"),
        ("64KB", "'64KB' is no size; write a whole number and its unit: 512B, 64KiB, 1MiB or 1GiB"),
        ("1.5MiB", "'1.5MiB' is no size; write a whole number and its unit: 512B, 64KiB, 1MiB or 1GiB"),
        ("0B", "'0B' is no size; write more than 0"),
    ],
)
def test_what_is_no_size_is_refused_with_what_to_write(written: object, message: str) -> None:
    assert complaint(values.SizeBytes, written) == message


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.1.11:443", "10.0.1.11", 443),
        ("[::1]:443", "::1", 443),
        ("mfa1.contoso.com:65535", "mfa1.contoso.com", 65535),
        ("localhost:1", "localhost", 1),
    ],
)
def test_an_address_has_host_and_port_and_is_written_as_it_was_read(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text
    assert pickle.loads(pickle.dumps(address)) == address  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("443", "'443' is no address; write host:port, for example 10.0.1.11:443 or [::1]:443"),
        (":443", "':443' is no address; write host:port, for example 10.0.1.11:443 or [::1]:443"),
        ("mfa:0", "'mfa:0' has no port from 1 to 65535 after its last colon"),
        ("mfa:65536", "'mfa:65536' has no port from 1 to 65535 after its last colon"),
        ("mfa:http", "'mfa:http' has no port from 1 to 65535 after its last colon"),
        ("mfa:" + "9" * 5000, f"'mfa:{'9' * 196}…' has no port from 1 to 65535 after its last colon"),
        ("::1:443", "'::1:443': put an IPv6 address in brackets, for example [::1]:443"),
        ("[mfa]:443", "'[mfa]:443': brackets are for IPv6 addresses only"),
        ("[::x]:443", "'::x' is no IP address"),
        ("10.0.0.256:443", "'10.0.0.256' is no IP address"),
        ("a b:443", "'a b' is no host; write a name (mfa.contoso.com) or an IP address, without a port"),
        (443, "'443' is no address; write host:port in quotes, for example '10.0.1.11:443'"),
    ],
)
def test_what_is_no_address_is_refused_with_what_to_write(text: object, message: str) -> None:
    assert complaint(Address, text) == message


@given(st.ip_addresses(), st.integers(min_value=1, max_value=65_535))
def test_every_address_survives_writing_and_reading(host: object, port: int) -> None:
    address = Address(str(host), port)
    assert Address.parse(str(address)) == address


@given(st.text())
def test_reading_an_address_raises_nothing_but_value_errors(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("text", ["10.0.5.0/24", "10.0.5.7", "2001:db8::/32", "::1", "10.0.0.0/255.0.0.0"])
def test_a_network_is_a_range_or_one_address(text: str) -> None:
    assert read(values.NetworkValue, text) == ip_network(text)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("10.0.5.1/24", "'10.0.5.1/24' names an address inside a network; did you mean '10.0.5.0/24'?"),
        ("vpn", "'vpn' is no network; write an address and its prefix length, for example 10.0.5.0/24"),
        (10.5, "'10.5' is no network; write an address and its prefix length, for example 10.0.5.0/24"),
    ],
)
def test_what_is_no_network_is_refused_with_what_to_write(written: object, message: str) -> None:
    assert complaint(values.NetworkValue, written) == message


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (values.Name, ["a", "mfa-sdk", "A.b_c-9"], ["", "-a", "a-", "a b", "ä", "a" * 65]),
        (values.CookieName, ["mfalb", "__Host-x"], ["", "a b", "a;b", "a=b", "ä"]),
        (values.UrlPath, ["/", "/a/b.asmx"], ["", "a", "/a b", "/a?b", "/a#b", "/ä"]),
        (values.RequestTarget, ["/", "/a?b=c"], ["", "a", "/a b", "/a#b"]),
        (values.Host, ["mfa.contoso.com", "::1", "10.0.0.1"], ["", "mfa:443", "a..b", "*.contoso.com", "x" * 254]),
    ],
)
def test_names_paths_and_hosts_are_checked(kind: Any, good: list[str], bad: list[str]) -> None:
    assert [read(kind, text) for text in good] == good
    for text in bad:
        assert " is no " in complaint(kind, text)


def test_a_relative_file_counts_from_the_folder_of_the_configuration() -> None:
    assert read(values.LocalFile, "tls/a.crt") == Path("/etc/mfalb/tls/a.crt")
    assert read(values.LocalFile, "/srv/a.crt") == Path("/srv/a.crt")
    assert read(values.LocalFile, "a.crt", context=None) == Path("a.crt")
    assert complaint(values.LocalFile, "").startswith("'.' is no file; write its path")


def test_a_secret_is_never_shown_but_can_be_revealed_and_compared() -> None:
    secret = Secret(b"hunter2")
    shown = f"{secret} {secret!r} {[secret]} {TypeAdapter(Secret).dump_python(secret)}"
    assert "hunter2" not in shown
    assert secret.reveal() == b"hunter2"
    assert secret == Secret(b"hunter2")
    assert secret != Secret(b"hunter3")
    assert secret != b"hunter2"
    assert len({secret, Secret(b"hunter2")}) == 1


def test_text_in_a_message_is_cut_and_has_no_control_characters() -> None:
    assert quoted("a\n\x1b[31m") == r"'a\n\x1b[31m'"
    assert quoted("x" * 300) == f"'{'x' * 200}…'"
