"""What HTTP listeners and pools take besides addresses: limits, forwarding fields, queues, retries."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mfalb.balancer.config.balancing_models import Share, check_part_name
from mfalb.balancer.config.connection_models import ConnectionLimits
from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import Count, Flag, Host, Seconds, SizeBytes

FieldName = Annotated[str, AfterValidator(check_part_name)]


class HttpLimits(ConnectionLimits):
    """What clients may take: so many connections, and this on each of them.

    `body_bytes_per_second` is the least that a body may come with, and `send_timeout_s` how long a client may take
    nothing of its answer; `tunnel_timeout_s` how long a WebSocket may be silent. `handshake_timeout_s` is
    for TLS.
    """

    header_bytes: SizeBytes = 32 * 1024
    header_count: Count = Field(default=100, ge=8, le=1000)
    handshake_timeout_s: Seconds = 10.0
    header_timeout_s: Seconds = 10.0
    idle_timeout_s: Seconds = 75.0
    body_bytes: SizeBytes = 256 * 1024 * 1024
    body_bytes_per_second: Count = Field(default=128, ge=0)
    send_timeout_s: Seconds = 60.0
    tunnel_timeout_s: Seconds = 3600.0


class Forwarding(Table):
    """What backends are told of the way that a request came: X-Forwarded-*, Forwarded (RFC 7239), Via (RFC 9110).

    `via` is our name in that field; answers then carry it too.
    """

    x_forwarded: Flag = True
    forwarded: Flag = False
    via: Host | None = None


class RequestId(Table):
    """A name for each request, in this field for the backend, in the answer and in the access log.

    One that comes with the request is kept only when it comes from a trusted proxy.
    """

    header: FieldName = "X-Request-ID"
    answer: Flag = True


Accepted = Literal["underscores", "encoded_slashes"]
"""What is refused unless it is named: underscores in field names; %2F and %5C in paths."""


class Queue(Table):
    """Requests that wait, in order, while every backend has as many connections as it may: 503 past either bound."""

    limit: Count = Field(default=1000, ge=1)
    timeout_s: Seconds = 10.0


class Retries(Table):
    """What may be sent to a second backend. What was refused before anything was sent always may, within the budget.

    `idempotent`: GET, HEAD and OPTIONS, too, that were sent and not answered by a byte. `budget` is the share of
    requests that may be tried anew in the long run, `reserve` how many at once beyond that.
    """

    idempotent: Flag = False
    budget: Share = 0.2
    reserve: Count = Field(default=1000, ge=1)
