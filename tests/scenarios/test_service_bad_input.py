"""Promise: no service of the estate reads entities, endless bodies or nonsense, and each serves on afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest
import requests
from programs.mfa_group import ACCOUNT, SDK_PATH
from programs.perimeter import APP_PATH, Perimeter

CLOUD_PATH: Final = "/pfd/pfd.pl"
BOMB: Final = "<!DOCTYPE a [<!ENTITY x '" + "x" * 1000 + "'><!ENTITY y '" + "&x;" * 1000 + "'>]>"
OUTSIDE: Final = "<!DOCTYPE a [<!ENTITY y SYSTEM 'file:///etc/hostname'>]>"
CALL: Final = "<Envelope><Body><TestSecurity><a>&y;</a></TestSecurity></Body></Envelope>"
XML: Final = {
    "nothing": b"",
    "cut": b"<Envelope><Body>",
    "no text": b"\xff\0",
    "another document": b"<html/>",
    "nested": b"<a>" * 10_000,
    "entities": (BOMB + CALL).encode(),
    "outside": (OUTSIDE + CALL).encode(),
    "entity without a DTD": CALL.encode(),
}
SERVICES: Final = {"mfa1": (SDK_PATH, 500), "app1": (APP_PATH, 500), "cloud": (CLOUD_PATH, 400)}
FORMS: Final = {
    "portal1": "/MultiFactorAuth/login",
    "adfs1": "/adfs/ls/password",
    "party": "/token",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Perimeter]:
    with Perimeter(tmp_path_factory.mktemp("perimeter")) as running:
        yield running


def post(site: Perimeter, name: str, path: str, body: bytes, kind: str = "text/xml") -> requests.Response:
    account = (ACCOUNT.name, ACCOUNT.password) if name == "mfa1" else None
    with requests.Session() as session:
        session.trust_env, session.verify = False, str(site.certificate.ca)
        headers = {"Content-Type": kind}
        return session.post(site.own_url(name) + path, data=body, auth=account, headers=headers, timeout=10)


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("body", XML)
def test_what_is_no_message_gets_a_refusal_that_repeats_nothing_of_it(site: Perimeter, name: str, body: str) -> None:
    path, status = SERVICES[name]
    answer = post(site, name, path, XML[body])
    assert answer.status_code == status
    assert len(answer.content) < 1000
    assert status != 500 or "<faultcode>soap:Client</faultcode>" in answer.text


@pytest.mark.parametrize("name", [*SERVICES, *FORMS])
def test_an_endless_body_is_not_taken_in_and_the_service_serves_on(site: Perimeter, name: str) -> None:
    path = SERVICES[name][0] if name in SERVICES else FORMS[name]
    kind = "text/xml" if name in SERVICES else "application/x-www-form-urlencoded"
    assert post(site, name, path, b"x" * 100_000, kind).status_code == 413
    assert post(site, name, path, b"x", kind).status_code < 501


@pytest.mark.parametrize("name", FORMS)
def test_a_form_with_thousands_of_fields_or_bytes_that_are_no_text_is_refused(site: Perimeter, name: str) -> None:
    kind = "application/x-www-form-urlencoded"
    assert (
        post(site, name, FORMS[name], b"&".join(b"a%d=1" % number for number in range(1000)), kind).status_code == 400
    )
    assert post(site, name, FORMS[name], b"csrf=%ff%00&user=%80&password=\xff&context=%c0%af", kind).status_code < 500


@pytest.mark.parametrize("body", [b"", b"[" * 50_000, b"{}", b'{"server": 7}', b"\xff", b'"text"'])
@pytest.mark.parametrize("path", ["/activation", "/groups/promotion"])
def test_the_cloud_registers_nobody_by_a_body_that_is_no_table_of_its_own(
    site: Perimeter, path: str, body: bytes
) -> None:
    assert post(site, "cloud", path, body, "application/json").status_code == 400
