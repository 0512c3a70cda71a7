"""Scanners find nothing worse than on a well-configured nginx beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from programs.balancer import Balancer
from programs.certificates import Authority
from programs.http_backend import OK, RawBackend, answering
from programs.http_pool import http_pool, new_front
from programs.tls_scan import NginxTls, Scan, findings_of

NAMES = ("www.example.test", "127.0.0.1")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The ports of mfalb and nginx, both with an ECDSA and an RSA certificate."""
    run_dir = tmp_path_factory.mktemp("scan")
    authority = Authority(run_dir / "ca")
    pairs = [authority.issue("ec", "ec", *NAMES), authority.issue("rsa", "rsa", *NAMES, is_rsa=True)]
    front = new_front(pairs[0])
    tls = {"certificates": [{"cert": str(pair.cert), "key": str(pair.key)} for pair in pairs]}
    with ExitStack() as stack:
        backend = stack.enter_context(RawBackend(answering(OK)))
        config = {
            "listeners": [front.listener("web", [{"pool": "web"}]) | {"tls": tls}],
            "pools": {"web": http_pool(backend.address)},
        }
        stack.enter_context(Balancer(config, run_dir / "mfalb"))
        nginx = stack.enter_context(NginxTls(run_dir / "nginx", *pairs))
        yield front.port, nginx.port


@pytest.fixture(scope="module")
def scans(servers: tuple[int, int], tmp_path_factory: pytest.TempPathFactory) -> tuple[Scan, Scan]:
    """What sslyze says of both."""
    directory = tmp_path_factory.mktemp("sslyze")
    mfalb, nginx = servers
    return Scan.of(mfalb, directory / "mfalb.json"), Scan.of(nginx, directory / "nginx.json")


def test_no_suite_is_accepted_that_nginx_refuses(scans: tuple[Scan, Scan]) -> None:
    mfalb, nginx = scans
    for version, suites in mfalb.suites.items():
        assert suites <= nginx.suites[version], version
    assert {version for version, suites in mfalb.suites.items() if suites} == {"tls_1_2", "tls_1_3"}
    kinds = {suite.split("_WITH_")[0] for suite in mfalb.suites["tls_1_2"]}
    assert kinds == {"TLS_ECDHE_ECDSA", "TLS_ECDHE_RSA"}, "both certificates are served"


def test_no_curve_is_accepted_that_nginx_refuses(scans: tuple[Scan, Scan]) -> None:
    mfalb, nginx = scans
    assert mfalb.curves <= nginx.curves
    assert {"X25519", "secp256r1"} <= mfalb.curves


def test_no_verdict_is_worse_than_nginx_s(scans: tuple[Scan, Scan]) -> None:
    mfalb, nginx = scans
    assert mfalb.verdicts == nginx.verdicts
    assert mfalb.verdicts == {
        "compression": False,
        "ccs": False,
        "fallback_scsv": True,
        "heartbleed": False,
        "robot": "NOT_VULNERABLE_RSA_NOT_SUPPORTED",
        "secure_renegotiation": True,
        "renegotiation_dos": False,
        "extended_master_secret": True,
        "early_data": False,
        "resumed_by_ticket": "FULLY_SUPPORTED",
    }


def test_testssl_finds_nothing_that_it_does_not_find_at_nginx(servers: tuple[int, int], tmp_path: Path) -> None:
    mfalb, nginx = findings_of(servers, tmp_path)
    assert mfalb == nginx
    assert {mfalb[name] for name in ("SSLv2", "SSLv3", "TLS1_2", "TLS1_3", "PFS")} == {"OK"}
    assert not {"LOW", "MEDIUM", "HIGH", "CRITICAL"} & set(mfalb.values())
