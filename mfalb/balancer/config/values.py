"""Scalar values of the configuration language: durations, sizes, addresses, names, files, secrets.

Each type reads the YAML form and refuses everything else with a sentence that says what is accepted. Code (and tests)
may build models from Python values too: a number is then taken in the unit of the attribute's name. Only a file has
to write its units, because only there a reader cannot see them.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)")
_BYTES_PER_UNIT = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_HOST_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:{_HOST_LABEL})(?:\.{_HOST_LABEL})*\.?")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_URL_PATH = re.compile(r"/[!-\"$->@-~]*")
_REQUEST_TARGET = re.compile(r"/[!-\"$-~]*")
_SHOWN_CHARACTERS = 200
_SHORTEST_S = 0.001
_HOST_LIMIT = 253
_PORT_LIMIT = 65_535
_NETWORK_FORM = "write an address and its prefix length, for example 10.0.5.0/24"


@dataclass(frozen=True, slots=True)
class Origin:
    """The file that settings are read from: given to pydantic as validation context, absent for Python values."""

    folder: Path


def quoted(text: object) -> str:
    """`text` as shown in a message: in quotes, unprintable characters escaped, long ones cut."""
    shown = str(text)
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[:_SHOWN_CHARACTERS] + "…"
    printable = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in shown
    )
    return f"'{printable}'"


def _shown(value: object) -> str:
    if isinstance(value, str | int | float):
        return quoted(value)
    return "an empty value" if value is None else "a table or list"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ------------------------------------------------------------------------------------------ durations


def _read_seconds(value: object, info: ValidationInfo) -> object:
    if _is_number(value):
        if isinstance(info.context, Origin):
            raise ValueError(f"{value} has no unit; write 500ms, {value}s, {value}m or {value}h")
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{_shown(value)} is no duration; write a number and its unit: 500ms, 5s, 2m or 1h")
    amount, unit = float(match[1]), match[2]
    match unit:
        case "ms":
            seconds = amount / 1000
        case "s":
            seconds = amount
        case "m":
            seconds = amount * 60
        case _:
            seconds = amount * 3600
    if seconds < _SHORTEST_S:
        raise ValueError(f"{quoted(value)} is too short; write at least 1ms")
    return seconds


def seconds_text(seconds: float) -> str:
    """The YAML form of a duration, in the largest unit that needs no fraction: 120.0 → "2m"."""
    milliseconds = round(seconds * 1000)
    for unit, factor in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % factor == 0:
            return f"{milliseconds // factor}{unit}"
    return f"{milliseconds}ms"


Seconds = Annotated[
    float,
    BeforeValidator(_read_seconds),
    Field(gt=0, allow_inf_nan=False),
    PlainSerializer(seconds_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["500ms", "5s", "2m", "1h"]}),
]
"""A duration; `5s` in YAML, 5.0 in Python."""


# ---------------------------------------------------------------------------------------------- sizes


def _read_size(value: object, info: ValidationInfo) -> object:
    if _is_number(value):
        if isinstance(info.context, Origin):
            raise ValueError(f"{value} has no unit; write {value}B, {value}KiB or {value}MiB")
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{_shown(value)} is no size; write a whole number and its unit: 512B, 64KiB, 1MiB or 1GiB")
    size_bytes = int(match[1]) * _BYTES_PER_UNIT[match[2]]
    if size_bytes == 0:
        raise ValueError(f"{quoted(value)} is no size; write more than 0")
    return size_bytes


def size_text(size_bytes: int) -> str:
    """The YAML form of a size, in the largest unit that needs no fraction: 65536 → "64KiB"."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes % _BYTES_PER_UNIT[unit] == 0:
            return f"{size_bytes // _BYTES_PER_UNIT[unit]}{unit}"
    return f"{size_bytes}B"


SizeBytes = Annotated[
    int,
    BeforeValidator(_read_size),
    Field(gt=0),
    PlainSerializer(size_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$", "examples": ["512B", "64KiB", "1MiB"]}),
]
"""A number of bytes; `64KiB` in YAML, 65536 in Python."""

# --------------------------------------------------------------------------------- hosts and addresses


def check_host(host: str) -> str:
    """Returns `host` when it is an IP address or a host name; ValueError otherwise."""
    if host.replace(".", "").isdigit() or ":" in host:
        try:
            ip_address(host)
        except ValueError:
            raise ValueError(f"{quoted(host)} is no IP address") from None
        return host
    if len(host) > _HOST_LIMIT or _HOST.fullmatch(host) is None:
        raise ValueError(f"{quoted(host)} is no host; write a name (mfa.contoso.com) or an IP address, without a port")
    return host


class Address(NamedTuple):
    """Host and port; `host` is a name or an IP address as it was written, an IPv6 address without its brackets."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads `10.0.1.11:443`, `mfa1.contoso.com:443` or `[::1]:443`; ValueError otherwise."""
        host, colon, port = text.rpartition(":")
        if not colon or not host:
            raise ValueError(f"{quoted(text)} is no address; write host:port, for example 10.0.1.11:443 or [::1]:443")
        if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= _PORT_LIMIT):
            raise ValueError(f"{quoted(text)} has no port from 1 to {_PORT_LIMIT} after its last colon")
        is_bracketed = host.startswith("[") and host.endswith("]")
        if ":" in host and not is_bracketed:
            raise ValueError(f"{quoted(text)}: put an IPv6 address in brackets, for example [::1]:443")
        bare = host[1:-1] if is_bracketed else host
        if is_bracketed and ":" not in bare:
            raise ValueError(f"{quoted(text)}: brackets are for IPv6 addresses only")
        return cls(check_host(bare), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def _read(cls, value: object) -> Address:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{_shown(value)} is no address; write host:port in quotes, for example '10.0.1.11:443'")  # noqa: TRY004 - pydantic collects ValueError only
        return cls.parse(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._read, serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": ":[0-9]{1,5}$", "examples": ["10.0.1.11:443", "[::1]:443"]}


Network = IPv4Network | IPv6Network
"""An address range; a single address is a range of one."""


def _read_network(value: object) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is no network; {_NETWORK_FORM}")  # noqa: TRY004 - pydantic collects ValueError only
    try:
        meant = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{quoted(value)} is no network; {_NETWORK_FORM}") from None
    address = value.partition("/")[0]
    if ip_address(address) == meant.network_address:
        return meant
    raise ValueError(f"{quoted(value)} names an address inside a network; did you mean '{meant}'?")


NetworkValue = Annotated[
    Network,
    BeforeValidator(_read_network),
    WithJsonSchema({"type": "string", "examples": ["10.0.5.0/24", "10.0.5.7", "2001:db8::/32"]}),
]
Host = Annotated[str, AfterValidator(check_host)]


def _read_ip_address(value: object) -> object:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is no IP address")  # noqa: TRY004 - pydantic collects ValueError only
    try:
        return ip_address(value)
    except ValueError:
        raise ValueError(f"{quoted(value)} is no IP address; write one without a port or prefix length") from None


IpAddressValue = Annotated[
    IPv4Address | IPv6Address,
    BeforeValidator(_read_ip_address),
    WithJsonSchema({"type": "string", "examples": ["10.0.5.7", "2001:db8::7"]}),
]
"""One IP address, without a port."""

# -------------------------------------------------------------------------------- names, paths, files


def _check_name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError(
            f"{quoted(value)} is no name; use 1 to 64 letters, digits, '.', '_' or '-', with a letter or digit at "
            "both ends"
        )
    return value


def _check_cookie_name(value: str) -> str:
    if _COOKIE_NAME.fullmatch(value) is None:
        raise ValueError(f"{quoted(value)} is no cookie name; use 1 to 64 letters, digits, '_' or '-'")
    return value


def _check_url_path(value: str) -> str:
    if _URL_PATH.fullmatch(value) is None:
        raise ValueError(f"{quoted(value)} is no path; begin with '/', without spaces, '?' or '#'")
    return value


def _check_request_target(value: str) -> str:
    if _REQUEST_TARGET.fullmatch(value) is None:
        raise ValueError(f"{quoted(value)} is no path; begin with '/', without spaces or '#'")
    return value


def _resolve_file(value: Path, info: ValidationInfo) -> Path:
    if not value.name:
        raise ValueError(
            "'.' is no file; write its path, relative to the folder of this configuration file or absolute"
        )
    return info.context.folder / value if isinstance(info.context, Origin) else value


Name = Annotated[str, AfterValidator(_check_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})]
"""A name that goes into logs, metrics and cookies."""

CookieName = Annotated[str, AfterValidator(_check_cookie_name)]
RequestTarget = Annotated[
    str, AfterValidator(_check_request_target), WithJsonSchema({"type": "string", "pattern": "^/"})
]
"""A path with its query, as it stands in a request line."""

UrlPath = Annotated[str, AfterValidator(_check_url_path), WithJsonSchema({"type": "string", "pattern": "^/"})]

LocalFile = Annotated[Path, AfterValidator(_resolve_file), WithJsonSchema({"type": "string"})]
"""A file; a relative path in YAML counts from the configuration file's folder."""

Count = Annotated[int, Field(strict=True)]
"""A whole number: neither text nor true/false stands for it."""

Flag = Annotated[bool, Field(strict=True)]
"""true or false, written so."""

# -------------------------------------------------------------------------------------------- secrets


class Secret:
    """Octets that nobody may see: not in a log, not in a traceback, not in a dump of the configuration."""

    __slots__ = ("_octets",)

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def reveal(self) -> bytes:
        """The octets, for the one place that computes with them."""
        return self._octets

    def __repr__(self) -> str:
        return "Secret(**********)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._octets, other._octets)

    def __hash__(self) -> int:
        return hash((Secret, self._octets))

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(
            cls, serialization=core_schema.plain_serializer_function_ser_schema(lambda _: "**********")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "writeOnly": True}
