"""Promise: a caller of the SDK may show its own certificate instead of a password, through TLS that passes through.

And a balancer that terminates TLS in front of such servers takes that away: it says so by level 1, credentials.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from programs.balancer import Balancer
from programs.certificates import Authority, CertificateFiles
from programs.http_pool import Front
from programs.mfa_group import ACCOUNT, SDK_PATH, USERS
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Logged, Program
from programs.tcp_pool import new_tcp_front

from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.files import write_settings
from mfalb.reference.config.mfa_server import CallerCertificates, MfaServerSettings, RadiusSettings
from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.config.values import Endpoint
from mfalb.reference.sdk_client.answers import Begun
from mfalb.reference.sdk_client.failures import Level, SdkUnavailable
from mfalb.reference.sdk_client.transport import open_sdk

HOST = "localhost"
CALLED = USERS[1]


@dataclass(frozen=True, slots=True)
class Site:
    """An MFA Server behind two listeners, and who may call it."""

    passing: str
    terminating: str
    ca: Path
    mapped: CertificateFiles
    stranger: CertificateFiles
    of_other_authority: CertificateFiles


def service(stack: ExitStack, run_dir: Path, kind: str, settings: CloudSettings | MfaServerSettings) -> None:
    path = run_dir / f"{kind}.json"
    write_settings(path, settings)
    argv = [sys.executable, "-m", "mfalb", "reference", kind, "-c", str(path)]
    launch = Launch(ready_deadline_s=60.0)
    stack.enter_context(Program(kind, argv, run_dir, ready=Logged("ready {"), launch=launch))


def fingerprint(files: CertificateFiles) -> str:
    return hashlib.sha256(
        x509.load_pem_x509_certificate(files.cert.read_bytes()).public_bytes(Encoding.DER)
    ).hexdigest()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    run_dir = tmp_path_factory.mktemp("callers")
    authority = Authority(run_dir / "tls")
    server = authority.issue("server", HOST, HOST, LOOPBACK)
    mapped, stranger = authority.issue("mapped", "portal1"), authority.issue("stranger", "somebody")
    other = Authority(run_dir / "other", "another authority").issue("other", "portal1")
    cloud_port, sdk_port = free_tcp_port(), free_tcp_port()
    passing, terminating = new_tcp_front(), Front(free_tcp_port(), server)
    settings = MfaServerSettings(
        name="mfa1",
        cloud_url=f"http://{LOOPBACK}:{cloud_port}",
        sdk=Endpoint(LOOPBACK, sdk_port, str(server.cert), str(server.key)),
        radius=RadiusSettings(Endpoint(LOOPBACK), "127.0.0.0/8", "radius-secret"),
        account=ACCOUNT,
        users=USERS,
        callers=CallerCertificates(str(authority.ca), (fingerprint(mapped),)),
    )
    backends = [{"name": "mfa1", "address": f"{LOOPBACK}:{sdk_port}"}]
    config = {
        "listeners": [
            passing.listener([{"sni": HOST, "pool": "passing"}]),
            terminating.listener("terminating", [{"pool": "terminating"}]),
        ],
        "pools": {
            "passing": {"backends": backends},
            "terminating": {
                "backends": backends,
                "upstream_tls": {"ca": str(authority.ca), "verify_name": HOST},
                "affinity": {"preset": "azure_mfa_sdk"},
            },
        },
    }
    with ExitStack() as stack:
        service(stack, run_dir, "cloud", CloudSettings(endpoint=Endpoint(LOOPBACK, cloud_port), answer_delay_s=0.05))
        service(stack, run_dir, "mfa-server", settings)
        stack.enter_context(Balancer(config, run_dir / "balancer", secrets=[ACCOUNT.password]))
        through, ended = (f"https://{HOST}:{front.port}{SDK_PATH}" for front in (passing, terminating))
        yield Site(through, ended, authority.ca, mapped, stranger, other)


def access(site: Site, url: str, caller: CertificateFiles) -> SdkAccess:
    return SdkAccess(url, str(site.ca), None, str(caller.cert), str(caller.key))


async def test_a_mapped_certificate_stands_for_the_account(site: Site) -> None:
    allowed = access(site, site.passing, site.mapped)
    async with AsyncExitStack() as stack:
        sdk = await open_sdk(allowed, "a test", stack)
        await sdk.test_security()
        assert await sdk.validate_password(CALLED.name, CALLED.password)
        assert not await sdk.validate_password(CALLED.name, "wrong")
        assert (await sdk.begin(CALLED.name)).begun is Begun.AUTHENTICATED


async def level_of(refused: SdkAccess) -> Level:
    async with AsyncExitStack() as stack:
        sdk = await open_sdk(refused, "a test", stack)
        with pytest.raises(SdkUnavailable) as caught:
            await sdk.test_security()
    return caught.value.level


async def test_a_certificate_that_is_not_mapped_is_refused(site: Site) -> None:
    assert await level_of(access(site, site.passing, site.stranger)) is Level.CREDENTIALS


async def test_a_certificate_of_another_authority_gets_no_answer_at_all(site: Site) -> None:
    """TLS 1.3 refuses after the handshake: whether the alert comes before the end of the connection is a race."""
    refused = await level_of(access(site, site.passing, site.of_other_authority))
    assert refused in {Level.CREDENTIALS, Level.UNREACHABLE}


async def test_a_certificate_does_not_pass_a_balancer_that_terminates_tls(site: Site) -> None:
    assert await level_of(access(site, site.terminating, site.mapped)) is Level.CREDENTIALS
