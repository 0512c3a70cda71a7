"""What goes over the admin API, both ways: frozen values, from which its OpenAPI description is made as well."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

WEIGHT_LIMIT: Final = 256  # as in the configuration
_TEXT_LIMIT: Final = 4096  # a cookie is shorter than 1 KB, a State than 254 bytes, written in hexadecimal

State = Literal["ready", "drain", "maint"]
BackendName = Annotated[
    str, Field(min_length=1, max_length=200, description="POOL/BACKEND, or BACKEND: that one in every pool that has it")
]
PoolName = Annotated[str, Field(min_length=1, max_length=100)]
_Text = Annotated[str, Field(max_length=_TEXT_LIMIT)]


class Message(BaseModel):
    """Unknown keys fail. What was sent is never repeated in an error: it may be a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


# ------------------------------------------------------------------------------------------ requests


class AdminStateChange(Message):
    """What an operator wants of a backend. `deadline_s` and `then` are for drain only.

    A drain ends when nothing is left to wait for, or `deadline_s` after it was asked for; with `then` the backend is in
    maint from that moment.
    """

    backend: BackendName
    state: State
    deadline_s: Annotated[float, Field(gt=0, le=7 * 86_400)] | None = None
    then: Literal["maint"] | None = None


class WeightChange(Message):
    """A weight for new work; null is the one of the configuration."""

    backend: BackendName
    weight: Annotated[int, Field(ge=0, le=WEIGHT_LIMIT, strict=True)] | None


class ReloadOrder(Message):
    """Take up what the configuration file says now; with `dry_run` only tell what would change."""

    dry_run: bool = False


class UpgradeOrder(Message):
    """Let a new process with the code and the configuration that are on the disk now take over."""


class CookieQuestion(Message):
    """A portal session's cookie."""

    kind: Literal["cookie"]
    pool: PoolName
    value: _Text


class StateQuestion(Message):
    """A RADIUS State (hexadecimal) that `user` would send through the NAS that the configuration calls `client`."""

    kind: Literal["state"]
    pool: PoolName
    state: Annotated[str, Field(max_length=_TEXT_LIMIT, pattern=r"^(0[xX])?([0-9a-fA-F]{2})+$")]
    client: _Text
    user: _Text


class RequestIdQuestion(Message):
    """The id of a transaction: with its user for the Web Service SDK, alone where servers never give one id twice."""

    kind: Literal["request_id"]
    pool: PoolName
    request_id: _Text
    user: _Text | None = None


class SourceQuestion(Message):
    """A client's address, IP or IP:port, that comes with something new. Without `pool` each one is asked."""

    kind: Literal["source"]
    source: Annotated[str, Field(max_length=100)]
    pool: PoolName | None = None


Question = Annotated[
    CookieQuestion | StateQuestion | RequestIdQuestion | SourceQuestion,
    Field(discriminator="kind"),
]

# ------------------------------------------------------------------------------------------- answers


class Failure(Message):
    """Why nothing was done: what is wrong, and what is accepted."""

    error: str


class BackendStatus(Message):
    """A backend as it is now. `reason` is why it is up or down; `weight` may differ from `configured_weight`."""

    pool: str
    name: str
    address: str
    health: str
    reason: str
    admin_state: State
    weight: int
    configured_weight: int
    share: float
    is_backup: bool
    is_ejected: bool
    degraded: str
    active: int
    requests: int
    failures: int


class PoolStatus(Message):
    """A pool as it is now. `waiting`: requests in its queue."""

    name: str
    algorithm: str
    affinity: str
    is_panicking: bool
    can_serve: bool
    waiting: int


class WorkersStatus(Message):
    """How many there should be, and how many serve; `silent` ones should and give no sign of life.

    `restarts` tells how often one was replaced, `kills` how often since it was killed for its silence.
    """

    configured: int
    serving: int
    silent: int
    restarts: int
    kills: int


class Status(Message):
    """The workers, and all pools and backends."""

    version: str
    workers: WorkersStatus
    pools: tuple[PoolStatus, ...]
    backends: tuple[BackendStatus, ...]


class Leaving(Message):
    """What still ties work to a backend.

    `pins` are the sign-ins that are pinned to it and have not ended, `longest_s` is until the last of them expires:
    null when this pool's pins live in cookies, or it has none. `deadline_in_s` and `then` are of a drain under way.
    `is_done`: there is nothing left to wait for. `needs_deadline`: nothing but a deadline can end a drain, as nobody
    can know when the sessions in cookies do.
    """

    pool: str
    backend: str
    admin_state: State
    active: int
    pins: int | None
    longest_s: float | None
    deadline_in_s: float | None
    then: Literal["maint"] | None
    is_done: bool
    needs_deadline: bool
    text: str


class Leavings(Message):
    """The backends that a name means, each with what still ties work to it."""

    backends: tuple[Leaving, ...]


class Changed(Message):
    """The backends that a change was made at, as they are now."""

    backends: tuple[BackendStatus, ...]


class PinCount(Message):
    """The sign-ins that are pinned to a backend and have not ended, and the seconds until the last pin expires.

    `pool` is null for pins of one that is no longer there.
    """

    pool: str | None
    backend: str
    pins: int
    longest_s: float


class Pins(Message):
    """The pin table: sign-ins that have not ended, and whom they are pinned to. What lives in cookies is not there."""

    total: int
    limit: int
    made: int
    hits: int
    misses: int
    backends: tuple[PinCount, ...]
    cookie_pools: tuple[str, ...]


class Verdict(Message):
    """Which backend of a pool it would get (null: none, or chance would decide), and why.

    `finding` is what the pin was: none, valid, unknown, expired, old, invalid or down.
    """

    pool: str
    backend: str | None
    finding: Literal["none", "valid", "unknown", "expired", "old", "invalid", "down"]
    text: str


class Verdicts(Message):
    """One verdict for each pool that was asked."""

    verdicts: tuple[Verdict, ...]


class LostPins(Message):
    """A backend that is no longer there, and how many sign-ins are pinned to it: their users begin anew.

    `pins` is null where sessions live in cookies.
    """

    pool: str
    backend: str
    pins: int | None


class Reloaded(Message):
    """What was changed, or would be; a line each."""

    is_dry_run: bool
    changes: tuple[str, ...]
    leaving: tuple[LostPins, ...]


class Upgraded(Message):
    """Which process serves now, and what it got: addresses, sockets towards RADIUS backends, drains under way.

    `former_pid` ends by itself when the connections that it had have ended, after `drain_s` at the latest.
    """

    pid: int
    former_pid: int
    addresses: int
    upstream_sockets: int
    drains: int
    drain_s: float
