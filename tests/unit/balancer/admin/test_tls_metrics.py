import ssl
from pathlib import Path

import pytest
from programs.certificates import Authority
from prometheus_client.core import Metric
from unit.net.handshakes import NOON, SECRET, shake_hands

from mfalb.balancer.admin.tls_metrics import tls_metrics
from mfalb.net.tls import ClientFiles, ClientTrust, ServerFiles, client_context, expiry_s
from mfalb.net.tls_files import TlsFiles


def samples(metrics: list[Metric]) -> dict[tuple[str, ...], float]:
    return {(one.name, *one.labels.values()): one.value for metric in metrics for one in metric.samples}


def test_the_page_tells_when_certificates_expire_and_how_reloads_went(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    web, ours, crl = authority.issue("web", "web", "web.test"), authority.issue("ours", "ours"), authority.revoke()
    tls_files = TlsFiles(SECRET, 5.0, lambda: NOON)
    tls_files.server("edge", ServerFiles(((web.cert, web.key),), ClientTrust(web.ca, crl)))
    tls_files.client("mfa", ClientFiles(certificate=(ours.cert, ours.key)))
    edge, _ = tls_files.watched
    signing_in = client_context(ClientFiles(is_verified=False, certificate=(ours.cert, ours.key)))
    shake_hands(edge.live.context, signing_in, None)
    with pytest.raises(ssl.SSLError):
        shake_hands(edge.live.context, client_context(ClientFiles(is_verified=False)), None)
    tls_files.apply(edge, "key values mismatch")
    found = samples(list(tls_metrics(tls_files.watched)))
    expiry, crl_expiry = "mfalb_tls_certificate_expiry_timestamp_seconds", "mfalb_tls_crl_expiry_timestamp_seconds"
    results = ["full", "resumed", "client_certificate_refused", "client_certificate_missing", "failed"]
    assert [found.pop(("mfalb_tls_handshakes_total", "edge", result)) for result in results] == [1, 0, 0, 1, 0]
    assert found.pop((crl_expiry, "listener", "edge", str(crl))) > NOON
    assert found == {
        (expiry, "listener", "edge", str(web.cert)): expiry_s(web.cert),
        (expiry, "pool", "mfa", str(ours.cert)): expiry_s(ours.cert),
        ("mfalb_tls_reloads_total", "listener", "edge", "ok"): 0,
        ("mfalb_tls_reloads_total", "listener", "edge", "failed"): 1,
        ("mfalb_tls_reloads_total", "pool", "mfa", "ok"): 0,
        ("mfalb_tls_reloads_total", "pool", "mfa", "failed"): 0,
        ("mfalb_tls_files_failing", "listener", "edge"): 1,
        ("mfalb_tls_files_failing", "pool", "mfa"): 0,
    }
