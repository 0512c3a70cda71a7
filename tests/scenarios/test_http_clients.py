"""The clients that people use: curl, requests and aiohttp, over plain HTTP and TLS."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import requests
from programs.balancer import Balancer, write_secret
from programs.certificates import CertificateFiles
from programs.http_backend import HttpBackend, pattern
from programs.http_pool import Front, http_pool, new_front
from programs.ports import LOOPBACK


@dataclass(frozen=True)
class Served:
    """A balancer with session cookies before two servers, and the authority that clients have to trust."""

    front: Front
    certificate: CertificateFiles

    @property
    def url(self) -> str:
        scheme = "http" if self.front.certificate is None else "https"
        return f"{scheme}://{LOOPBACK}:{self.front.port}"

    def curl(self, *arguments: str, given: bytes = b"") -> bytes:
        """What curl prints. It fails on errors of the connection, not on statuses."""
        command = ["curl", "--silent", "--show-error", "--max-time", "20", "--cacert", str(self.certificate.ca)]
        return subprocess.run([*command, *arguments], input=given, capture_output=True, check=True, timeout=30).stdout


@pytest.fixture(scope="module", params=["plain", "tls"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles
) -> Iterator[Served]:
    run_dir = tmp_path_factory.mktemp("clients")
    front = new_front(certificate if request.param == "tls" else None)
    with ExitStack() as stack:
        backends = [stack.enter_context(HttpBackend(name, run_dir / name)) for name in ("b1", "b2")]
        key = base64.b64encode(os.urandom(32)).decode()
        config = {
            "listeners": [front.listener("web", [{"pool": "p"}])],
            "pools": {"p": http_pool(*(one.address for one in backends), affinity={"type": "cookie"})},
            "pins": {"cookie_keys_file": write_secret(run_dir, "cookie-keys", key)},
        }
        stack.enter_context(Balancer(config, run_dir / "mfalb", secrets=[key]))
        yield Served(front, certificate)


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_curl_keeps_its_session_and_its_connection(served: Served, version: str, tmp_path: Path) -> None:
    jar = str(tmp_path / "jar")
    urls = [f"{served.url}/{number}" for number in range(6)]
    form = "\n%{http_code} %{num_connects} %{http_version}\n"
    said = served.curl(version, "--cookie-jar", jar, "--cookie", jar, "--write-out", form, *urls).decode().splitlines()
    names = {json.loads(line)["name"] for line in said[::2]}
    told = [line.split() for line in said[1::2]]
    assert len(names) == 1
    assert {status for status, _, _ in told} == {"200"}
    connects = [number for _, number, _ in told]
    assert connects == (["1"] * 6 if version == "--http1.0" else ["1", *["0"] * 5])


@pytest.mark.parametrize("how", ["expect", "length", "stdin"])
def test_curl_uploads_a_file_in_each_way_that_it_knows(served: Served, how: str, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "data").write_bytes(data)
    ways = {
        "expect": ("--header", "Expect: 100-continue", "--data-binary", f"@{tmp_path}/data"),
        "length": ("--header", "Expect:", "--upload-file", str(tmp_path / "data")),
        "stdin": ("--header", "Transfer-Encoding: chunked", "--upload-file", "-"),
    }
    seen = json.loads(served.curl(*ways[how], f"{served.url}/up", given=data if how == "stdin" else b""))
    assert (seen["length"], seen["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_curl_s_head_has_no_body_and_its_download_is_whole(served: Served) -> None:
    head = served.curl("--head", f"{served.url}/bytes/100000").decode().lower()
    assert head.startswith("http/1.1 200 ok\r\n")
    assert "\r\ncontent-length: 100000\r\n" in head
    assert served.curl(f"{served.url}/bytes/5000000?framing=chunked") == b"".join(pattern(5_000_000))


def test_a_requests_session_stays_where_it_began_and_streams_both_ways(served: Served) -> None:
    with requests.Session() as session:
        session.trust_env = False  # or a variable that names another authority would win
        session.verify = str(served.certificate.ca)
        names = {session.get(f"{served.url}/{n}", timeout=10).json()["name"] for n in range(8)}
        assert len(names) == 1
        pieces = [os.urandom(10_000) for _ in range(50)]
        seen = session.post(f"{served.url}/up", data=iter(pieces), timeout=20).json()
        assert seen["sha256"] == hashlib.sha256(b"".join(pieces)).hexdigest()
        with session.get(f"{served.url}/bytes/2000000?framing=chunked", stream=True, timeout=20) as answer:
            assert b"".join(answer.iter_content(50_000)) == b"".join(pattern(2_000_000))
        assert session.get(f"{served.url}/status/404", timeout=10).status_code == 404


async def test_a_hundred_of_aiohttp_s_requests_at_once_are_each_answered_with_their_own(served: Served) -> None:
    context = ssl.create_default_context(cafile=str(served.certificate.ca))

    async def ask(session: aiohttp.ClientSession, number: int) -> bool:
        data = bytes([number]) * (number * 1000)
        async with session.post(f"{served.url}/{number}", data=data, ssl=context) as answer:
            seen = await answer.json()
        return bool(seen["target"] == f"/{number}" and seen["sha256"] == hashlib.sha256(data).hexdigest())

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=30)) as session:
        assert all(await asyncio.gather(*(ask(session, number) for number in range(100))))
