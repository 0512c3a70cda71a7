import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
from programs.certificates import Authority, CertificateFiles
from unit.net.handshakes import NOON, SECRET, shake_both_hands, shake_hands
from unit.net.throw_away_certificates import write_certificate

from mfalb.net.handshakes import Handshakes
from mfalb.net.live_tls import LiveServer
from mfalb.net.tls import ClientFiles, ClientTrust, ServerFiles, client_context


@dataclass(frozen=True)
class Site:
    live: LiveServer
    alice: CertificateFiles
    eve: CertificateFiles

    def counted(self) -> dict[str, int]:
        return {result: count for result, count in self.live.handshakes.counts.items() if count}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    clients, strangers = Authority(tmp_path / "clients"), Authority(tmp_path / "strangers", "strangers")
    files = ServerFiles((write_certificate(tmp_path, "web", "web.test"),), ClientTrust(clients.ca))
    live = LiveServer("edge", files, SECRET, NOON)
    return Site(live, clients.issue("alice", "alice"), strangers.issue("eve", "eve"))


def client(shown: CertificateFiles | None) -> ssl.SSLContext:
    return client_context(ClientFiles(is_verified=False, certificate=(shown.cert, shown.key) if shown else None))


def test_what_comes_to_an_end_is_counted_as_full_or_resumed(site: Site) -> None:
    ours = client(site.alice)
    session = shake_hands(site.live.context, ours, "web.test").session
    shake_both_hands(site.live.context, ours, "web.test", session)
    assert site.counted() == {"full": 1, "resumed": 1}


def test_what_fails_is_counted_by_its_reason_and_goes_on_failing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    old = client(site.alice)
    old.set_ciphers("kRSA")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    for ours in (client(None), client(site.eve), client(site.eve), old):
        with pytest.raises(ssl.SSLError):
            shake_hands(site.live.context, ours, "web.test")
    assert site.counted() == {"client_certificate_missing": 1, "client_certificate_refused": 2, "failed": 1}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert vars(record)["listener"] == "edge"
    assert "unable to get local issuer" in vars(record)["reason"]


def test_where_the_listener_tells_by_itself_nothing_is_logged_twice(
    site: Site, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    files = ServerFiles(
        (write_certificate(tmp_path, "web", "web.test"),), ClientTrust(site.alice.ca), tells_refusals=False
    )
    live = LiveServer("radsec", files, SECRET, NOON)
    with pytest.raises(ssl.SSLError):
        shake_hands(live.context, client(site.eve), "web.test")
    assert live.handshakes.counts["client_certificate_refused"] == 1
    assert not caplog.records


def test_counts_outlive_the_front_and_the_certificates(site: Site, tmp_path: Path) -> None:
    shake_hands(site.live.context, client(site.alice), "web.test")
    write_certificate(tmp_path, "web", "web.test")
    site.live.prepare(NOON + 36_000)()
    shake_hands(site.live.context, client(site.alice), "web.test")
    assert site.counted() == {"full": 2}


def test_an_error_without_a_reason_is_counted_too() -> None:
    handshakes = Handshakes("edge", tells=True)
    error = ssl.SSLError(1, "odd")
    error.reason = None  # type: ignore[assignment] # as OpenSSL has it for errors that it has no name for
    handshakes.failed(error)
    assert handshakes.counts["failed"] == 1
