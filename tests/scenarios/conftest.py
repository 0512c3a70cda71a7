"""Real servers for the scenarios: two of each kind, so that a wrong choice shows."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from programs.certificates import CertificateFiles, make_certificate
from programs.freeradius import FreeRadius, eap_server, otp_server

# A test run that is told to end (TERM from a CI time-out) unwinds like one interrupted by hand, and so stops every
# program it started; Python's default would end it on the spot and leave them behind.
signal.signal(signal.SIGTERM, signal.default_int_handler)

Servers = tuple[FreeRadius, FreeRadius]
_WORD = re.compile(r"\W+")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    """A server certificate for `radius.example.test`, `www.example.test` and 127.0.0.1."""
    return make_certificate(
        tmp_path_factory.mktemp("certificate"), "radius.example.test", "www.example.test", "127.0.0.1"
    )


@pytest.fixture
def pictures(request: pytest.FixtureRequest) -> Path:
    """Where this test's pictures are kept when it is over: build/screenshots/FILE/TEST/. Nothing secret is on them."""
    folder = request.config.rootpath / "build" / "screenshots" / request.path.stem / _WORD.sub("_", request.node.name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def otp_servers(tmp_path: Path) -> Iterator[Servers]:
    """Two FreeRADIUS with the stock challenge site; each only knows the sign-ins that it began itself."""
    with ExitStack() as running:
        one, two = (
            running.enter_context(otp_server(f"otp{number}", tmp_path, f"towards-otp-server-{number}"))
            for number in (1, 2)
        )
        yield one, two


@pytest.fixture
def eap_servers(tmp_path: Path, certificate: CertificateFiles) -> Iterator[Servers]:
    """Two FreeRADIUS for PEAP and TTLS with different secrets, so that keys must be encrypted anew on the way."""
    with ExitStack() as running:
        one, two = (
            running.enter_context(eap_server(f"eap{number}", tmp_path, f"towards-eap-server-{number}", certificate))
            for number in (1, 2)
        )
        yield one, two
