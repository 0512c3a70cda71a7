"""How backends are watched: what is asked of them, how often, and what their traffic counts for."""

from __future__ import annotations

import math
import re
from enum import Enum
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from mfalb.balancer.config.balancing_models import Share
from mfalb.balancer.config.http_values import FieldName, FieldValue
from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import (
    Count,
    Flag,
    Host,
    LocalFile,
    RequestTarget,
    Seconds,
    Secret,
    SizeBytes,
    quoted,
    seconds_text,
    size_text,
)

_ROUNDING: Final = 1e-9  # 0.29 of a hundred is 29, and not 28.999999999999996
_LARGEST_BODY_BYTES: Final = 1024 * 1024
_NAMESPACE: Final = re.compile(r"[!#-%'-;=?-~]{1,200}")  # without what XML and HTTP would have to escape
_OURS: Final = frozenset(("host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "te"))


class CheckTiming(Table):
    """How often a backend is probed, and how many results in a row flip its health.

    `fast_interval_s` counts while results contradict its health, `down_interval_s` while it is down and they do not.
    """

    interval_s: Seconds = 5.0
    fast_interval_s: Seconds | None = None
    down_interval_s: Seconds | None = None
    timeout_s: Seconds = 4.0
    rise: Count = Field(default=2, ge=1, le=100)
    fall: Count = Field(default=3, ge=1, le=100)

    @model_validator(mode="after")
    def _fast_is_not_slow(self) -> Self:
        if self.fast_interval_s is not None and self.fast_interval_s > self.interval_s:
            raise ValueError("fast_interval is longer than interval")
        return self


def _checked_user(value: str) -> str:
    if not value or ":" in value or not value.isprintable():
        raise ValueError(f"{quoted(value)} is no user name; HTTP Basic takes printable ones without ':'")
    return value


def _checked_namespace(value: str) -> str:
    if _NAMESPACE.fullmatch(value) is None:
        raise ValueError(f"{quoted(value)} is no namespace; write a URI of 1 to 200 characters")
    return value


def _checked_limit(value: int) -> int:
    if value > _LARGEST_BODY_BYTES:
        raise ValueError(
            f"{size_text(value)} is more than a check needs; write at most {size_text(_LARGEST_BODY_BYTES)}"
        )
    return value


class WebCheckTable(CheckTiming):
    """What checks that speak HTTP have in common: as whom they ask, and how much of an answer is read.

    `user` and `password` are for HTTP Basic.
    """

    host: Host | None = None
    user: Annotated[str, AfterValidator(_checked_user)] | None = None
    password: Secret | None = None
    body_limit: Annotated[SizeBytes, AfterValidator(_checked_limit)] = 64 * 1024

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if self.password is not None and self.user is None:
            raise ValueError("a password without 'user' is nobody's; write whose it is")
        if self.user is not None and self.password is None:
            raise ValueError(f"user: {quoted(self.user)} needs 'password_file' or 'password_env'")
        return self


class CheckMethod(Enum):
    """How an http check asks."""

    GET = "GET"
    HEAD = "HEAD"
    OPTIONS = "OPTIONS"
    POST = "POST"


def _not_ours(name: str) -> str:
    if name.lower() == "authorization":
        raise ValueError("Authorization is a secret, which has no place here; write 'user' and 'password_file'")
    if name.lower() in _OURS:
        raise ValueError(f"{quoted(name)} is written by the check itself; remove it (for a Host write 'host')")
    return name


class ExpectedHeader(Table):
    """A field that has to be in the answer, with this value if one is written."""

    name: FieldName
    value: FieldValue | None = None


class HttpCheck(WebCheckTable):
    """Asks for `path`; up when the answer is as expected: its status, and what is written of its header and body.

    The body has to hold `expect_body` within its first `body_limit` bytes. A text is looked for, and no pattern: some
    patterns take for ever on a body that somebody else chose.
    """

    type: Literal["http"]
    method: CheckMethod = CheckMethod.GET
    path: RequestTarget = "/"
    headers: dict[Annotated[FieldName, AfterValidator(_not_ours)], FieldValue] = Field(default_factory=dict)
    body_file: LocalFile | None = None
    expect_status: tuple[Annotated[Count, Field(ge=100, le=599)], ...] = Field(default=(200,), min_length=1)
    expect_header: ExpectedHeader | None = None
    expect_body: Annotated[str, Field(min_length=1, max_length=1000)] | None = None

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        if self.body_file is not None and self.method is not CheckMethod.POST:
            raise ValueError(f"body_file: {self.method.value} has no body; write method: POST, or remove it")
        if self.expect_body is not None and self.method is CheckMethod.HEAD:
            raise ValueError("expect_body: an answer to HEAD has no body; write another method, or remove it")
        return self


class TcpCheck(CheckTiming):
    """Up when a TCP connection opens."""

    type: Literal["tcp"]


class SdkCheck(WebCheckTable):
    """Azure MFA's Web Service SDK: up when TestSecurity says `secure`; nobody's phone rings.

    With `check_master`, one that says by TestMasterConnection that it does not reach the master is degraded: up, and
    marked. Its answers are read by local names; `namespace` is what the calls are made in.
    """

    type: Literal["sdk"]
    path: RequestTarget = "/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx"
    namespace: Annotated[str, AfterValidator(_checked_namespace)] = "http://www.phonefactor.com/PfWsSdk"
    check_master: Flag = True


WebCheck = HttpCheck | SdkCheck
ProbedCheck = HttpCheck | TcpCheck | SdkCheck

LEAST_WATCHDOG_INTERVAL_S: Final = 6.0  # RFC 3539 section 3.4.1, without jitter


class RadiusCheck(Table):
    """Status-Server (RFC 5997) when nothing was heard for `interval`, Tw of RFC 3539 section 3.4.1.

    `rise` answered probes in a row bring a backend up again; `fall` refused ports in a row bring it down, as one probe
    does that nobody answers. `fast` allows a lower Tw than the RFC does.
    """

    type: Literal["radius"]
    fast: Flag = False
    interval_s: Seconds = 30.0
    rise: Count = Field(default=3, ge=1, le=100)
    fall: Count = Field(default=3, ge=1, le=100)

    @field_validator("interval_s")
    @classmethod
    def _not_below_the_least(cls, value: float, info: ValidationInfo) -> float:
        if value < LEAST_WATCHDOG_INTERVAL_S and info.data.get("fast") is False:
            raise ValueError(
                f"{seconds_text(value)} is less than RFC 3539 section 3.4.1 allows (servers that are slow would look "
                f"dead); write at least {seconds_text(LEAST_WATCHDOG_INTERVAL_S)}, or fast: true in a laboratory"
            )
        return value


HealthCheck = Annotated[HttpCheck | TcpCheck | SdkCheck | RadiusCheck, Field(discriminator="type")]

# -------------------------------------------------------------------------------------- what traffic shows


class Failure(Enum):
    """What may go wrong with an exchange through the fault of a backend.

    REFUSED: no connection (refused, timed out, TLS failed). RESET: it ended before the answer did. TIMEOUT: no answer
    within `response_timeout`. GARBAGE: what came is no answer.
    """

    REFUSED = "refused"
    RESET = "reset"
    TIMEOUT = "timeout"
    GARBAGE = "garbage"


class PassiveCheck(Table):
    """When traffic alone takes a backend out, for a time: `consecutive_failures` of these, and no answer between them.

    Each further time is twice as long, up to `max_ejection_time_s`; never more than `ejection_limit` of the pool's
    backends at a time, and never the last one that serves.
    """

    consecutive_failures: Count = Field(default=5, ge=1, le=1000)
    failures: tuple[Failure, ...] = tuple(Failure)
    failure_status: tuple[Annotated[Count, Field(ge=500, le=599)], ...] = (502, 503, 504)
    ejection_time_s: Seconds = 30.0
    max_ejection_time_s: Seconds = 300.0
    ejection_limit: Share = 0.5

    def most_ejected(self, backends: int) -> int:
        """How many of so many backends may be ejected at a time."""
        return min(math.floor(self.ejection_limit * backends + _ROUNDING), backends - 1)

    @model_validator(mode="after")
    def _some_failure(self) -> Self:
        if not self.failures and not self.failure_status:
            raise ValueError("nothing counts: write 'failures' or 'failure_status'")
        return self

    @model_validator(mode="after")
    def _within_the_longest(self) -> Self:
        if self.ejection_time_s > self.max_ejection_time_s:
            raise ValueError("ejection_time is longer than max_ejection_time")
        return self
