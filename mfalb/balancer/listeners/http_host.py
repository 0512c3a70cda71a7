"""The client's connection, as the exchange on it sees it."""

from __future__ import annotations

from abc import abstractmethod

from mfalb.balancer.exchange.forwarding import ClientFacts
from mfalb.wire.http_events import RequestEvents


class FlowHost(RequestEvents):
    """The client's connection, as a flow sees it. `is_full`: the client reads more slowly than it is written to."""

    __slots__ = ("client", "is_full")

    def __init__(self) -> None:
        self.client = ClientFacts("", is_tls=False)
        self.is_full = False

    @property
    @abstractmethod
    def is_paused(self) -> bool:
        """Whether it is we who do not read on."""

    @abstractmethod
    def write(self, data: bytes) -> None: ...

    @abstractmethod
    def pause_for_upstream(self) -> None: ...

    @abstractmethod
    def resume_for_upstream(self) -> None: ...

    @abstractmethod
    def begin_tunnel(self) -> None:
        """Protocols were switched: whatever the client sends is given to `HttpFlow.request_body`."""

    @abstractmethod
    def end_tunnel(self, *, is_half: bool) -> None:
        """The backend sends nothing more; `is_half`: but still listens."""

    @abstractmethod
    def flow_ended(self, *, keep_alive: bool) -> None: ...

    @abstractmethod
    def abort(self) -> None:
        """Break the connection, so that the client cannot take what it got for a whole answer."""
