"""Promise: the admin port shows the last requests that were refused and where their fault is, but no secrets."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from programs.certificates import CertificateFiles
from programs.http_sites import RoughSite, rough_site
from programs.odd_requests import AMBIGUOUS, BAD_CHUNKS, CHUNKED, SMUGGLED
from programs.ports import LOOPBACK


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles) -> Iterator[RoughSite]:
    with rough_site(tmp_path_factory.mktemp("suspects"), certificate) as running:
        yield running


def suspects(site: RoughSite) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"http://{LOOPBACK}:{site.balancer.admin_port}/suspects", timeout=5) as page:
        found: list[dict[str, Any]] = json.load(page)["suspects"]
    return found


@pytest.mark.parametrize("name", [*AMBIGUOUS, *BAD_CHUNKS])
def test_what_is_refused_is_counted_and_shown_with_its_place(running: RoughSite, name: str) -> None:
    bad = AMBIGUOUS.get(name) or CHUNKED + BAD_CHUNKS[name] + SMUGGLED
    running.plain.say(bad)
    newest = suspects(running)[0]
    assert running.counted("mfalb_listener_drops_total", reason=newest["reason"]) >= 1
    excerpt = newest["excerpt"].encode("ascii").decode("unicode_escape").encode("latin-1")
    assert excerpt
    assert name in BAD_CHUNKS or excerpt in bad  # of a body only the shape is shown
    assert 0 <= newest["position"] <= len(excerpt)
    assert b"smuggled" not in excerpt
    assert newest["client"] == LOOPBACK


def test_secrets_are_masked_and_the_ring_is_bounded(running: RoughSite) -> None:
    for number in range(80):
        running.plain.say(
            b"GET /a?otp=Hidden%d HTTP/1.1\r\nHost: x\r\nCookie: session=Hidden\r\nAuthorization: Basic Hidden\r\n"
            b"Bad Name: x\r\n\r\n" % number
        )
    found = suspects(running)
    assert len(found) == 64
    assert "Hidden" not in json.dumps(found)
    assert {one["reason"] for one in found} == {"field_name"}
    assert {one["at"] for one in found} == {" "}
