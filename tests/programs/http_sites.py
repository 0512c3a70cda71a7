"""Running balancers for HTTP scenarios: one between peers that misbehave, one between peers that do not."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from programs.balancer import Balancer
from programs.certificates import CertificateFiles, make_certificate
from programs.http_backend import OK, HttpBackend, RawBackend, RawPeer, Script, answering
from programs.http_pool import Front, http_pool, new_front
from programs.ports import LOOPBACK, free_tcp_port

HEADER_BYTES: Final = 8192
_RESPONSE_TIMEOUT: Final = "2s"


@dataclass(frozen=True)
class RoughSite:
    """A balancer before a raw backend (`/`), one whose certificate nobody trusts (`/untrusted`), and none (`/gone`).

    `front` speaks TLS, `plain` does not. Limits and time-outs are short.
    """

    balancer: Balancer
    front: Front
    plain: Front
    backend: RawBackend

    def counted(self, name: str, **labels: str) -> float:
        """The value of a counter; 0 before its first event."""
        try:
            return self.balancer.metrics().total(name, **labels)
        except KeyError:
            return 0

    def drops(self, reason: str) -> float:
        return self.counted("mfalb_listener_drops_total", reason=reason)

    @contextmanager
    def served(self) -> Iterator[None]:
        """Whatever happens inside: afterwards both listeners serve, and nothing unexpected was logged."""
        self.backend.script = answering(OK)
        yield
        self.backend.forget()
        self.backend.script = answering(OK)
        assert self.front.get("/") == (200, b"ok")
        assert self.plain.get("/") == (200, b"ok")
        assert "Traceback" not in self.balancer.log(), self.balancer.tail()
        self.backend.forget()


def _untrusted_tls(context: ssl.SSLContext) -> Script:
    def script(peer: RawPeer) -> None:
        context.wrap_socket(peer.socket, server_side=True).close()

    return script


@contextmanager
def rough_site(run_dir: Path, certificate: CertificateFiles) -> Iterator[RoughSite]:
    """Starts it."""
    stranger = make_certificate(run_dir / "stranger", LOOPBACK)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(stranger.cert, stranger.key)
    front, plain = new_front(certificate), new_front()
    routes = [{"path": path, "pool": pool} for path, pool in (("/", "raw"), ("/untrusted", "tls"), ("/gone", "gone"))]
    limits = {"header_bytes": f"{HEADER_BYTES}B", "header_count": 20, "header_timeout": "1s", "idle_timeout": "1s"}
    with ExitStack() as stack:
        backend = stack.enter_context(RawBackend(answering(OK)))
        impostor = stack.enter_context(RawBackend(_untrusted_tls(context)))
        config = {
            "listeners": [front.listener("tls", routes, limits=limits), plain.listener("plain", routes, limits=limits)],
            "pools": {
                "raw": http_pool(backend.address, response_timeout=_RESPONSE_TIMEOUT),
                "tls": http_pool(impostor.address, upstream_tls={"ca": str(certificate.ca)}),
                "gone": http_pool(f"{LOOPBACK}:{free_tcp_port()}"),
            },
        }
        yield RoughSite(stack.enter_context(Balancer(config, run_dir / "mfalb")), front, plain, backend)


@dataclass(frozen=True)
class Site:
    """A balancer before a backend that behaves (`/`) and a raw one (`/raw`)."""

    balancer: Balancer
    front: Front
    backend: HttpBackend
    raw: RawBackend


@contextmanager
def smooth_site(
    run_dir: Path, certificate: CertificateFiles, *, is_tls: bool, is_trusting: bool = False
) -> Iterator[Site]:
    """Starts it. `is_tls`: on both sides, upstream verified; `is_trusting`: clients' X-Forwarded-* are believed."""
    front = new_front(certificate if is_tls else None)
    more: dict[str, Any] = {"upstream_tls": {"ca": str(certificate.ca)}} if is_tls else {}
    options = {"trusted_proxies": ["127.0.0.0/8"]} if is_trusting else {}
    routes = [{"pool": "web"}, {"path": "/raw", "pool": "raw"}]
    with ExitStack() as stack:
        backend = stack.enter_context(HttpBackend("b1", run_dir / "b1", certificate if is_tls else None))
        raw = stack.enter_context(RawBackend(answering(b"")))
        config = {
            "listeners": [front.listener("web", routes, **options)],
            "pools": {"web": http_pool(backend.address, **more), "raw": http_pool(raw.address)},
        }
        yield Site(stack.enter_context(Balancer(config, run_dir / "mfalb")), front, backend, raw)
