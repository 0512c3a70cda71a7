from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from unit.reference.web_client import WebClient

from mfalb.reference.config.relying_party import RelyingPartySettings
from mfalb.reference.config.values import Endpoint
from mfalb.reference.relying_party.app import RelyingParty
from mfalb.reference.relying_party.checks import TokenChecker
from mfalb.reference.relying_party.key_source import KeysUnavailable

ISSUER, NOW = "https://adfs.example/adfs", 1_700_000_000
KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("k1", "k2")}
SETTINGS = RelyingPartySettings("party", Endpoint(), "expenses", "https://app.example/token", ISSUER)


def key_set(*names: str) -> dict[str, Any]:
    to_jwk = jwt.algorithms.ECAlgorithm.to_jwk
    return {"keys": [{**to_jwk(KEYS[name].public_key(), as_dict=True), "kid": name, "alg": "ES256"} for name in names]}


@dataclass
class FakeKeys:
    """The farm's keys: those it had, and those it has by now."""

    is_there: bool = True
    asked_anew: int = 0

    async def keys(self, *, is_anew: bool = False) -> dict[str, Any]:
        if not self.is_there:
            raise KeysUnavailable("timeout")
        self.asked_anew += is_anew
        return key_set("k1", "k2") if is_anew else key_set("k1")


@pytest.fixture
def keys() -> FakeKeys:
    return FakeKeys()


@pytest.fixture
def browser(keys: FakeKeys) -> WebClient:
    party = RelyingParty(SETTINGS, TokenChecker(ISSUER, "expenses", lambda: NOW), keys, lambda: 0.0)
    return WebClient(party.application(), headers={"X-Forwarded-Proto": "https"})


async def asked(browser: WebClient) -> dict[str, str]:
    """What the browser is sent to the farm with."""
    page = await browser.get("/signin")
    assert page.status == 303
    address = urlsplit(page.headers["Location"])
    assert f"{address.scheme}://{address.netloc}{address.path}" == f"{ISSUER}/oauth2/authorize"
    return {name: values[0] for name, values in parse_qs(address.query).items()}


def token(nonce: str, key_id: str = "k1") -> str:
    claims = {"iss": ISSUER, "aud": "expenses", "sub": "alice", "nonce": nonce, "jti": nonce}
    times = {"iat": NOW, "nbf": NOW, "exp": NOW + 300}
    return jwt.encode(claims | times, KEYS[key_id], algorithm="ES256", headers={"kid": key_id})


async def test_who_comes_back_with_a_token_is_signed_in(browser: WebClient) -> None:
    query = await asked(browser)
    assert (query["client_id"], query["redirect_uri"]) == ("expenses", "https://app.example/token")
    page = await browser.post("/token", id_token=token(query["nonce"]), state=query["state"])
    assert (page.status, page.headers["Location"]) == (303, "/")
    assert "<strong>alice</strong>" in (await browser.get()).text


async def test_the_cookie_of_a_sign_in_comes_along_from_another_site_and_is_no_secret_of_the_address(
    browser: WebClient,
) -> None:
    query = await asked(browser)
    cookie = browser.page.set_cookies["AppSignIn"]
    assert (cookie["samesite"], bool(cookie["secure"]), bool(cookie["httponly"])) == ("None", True, True)
    assert cookie.value not in query.values()


async def test_a_token_of_another_browser_or_sign_in_is_not_taken(browser: WebClient) -> None:
    first = await asked(browser)
    second = await asked(browser)
    for form in (
        {"id_token": token(first["nonce"]), "state": second["state"]},
        {"id_token": token(second["nonce"]), "state": first["state"]},
        {"id_token": token(second["nonce"]), "state": ""},
        {"id_token": "", "state": second["state"]},
    ):
        page = await browser.post("/token", **form)
        assert (page.status, "was not accepted" in page.text) == (403, True)
    browser.cookies.clear()
    assert (await browser.post("/token", id_token=token(second["nonce"]), state=second["state"])).status == 403
    assert "You are not signed in here." in (await browser.get()).text


async def test_a_new_key_of_the_farm_is_fetched(browser: WebClient, keys: FakeKeys) -> None:
    query = await asked(browser)
    page = await browser.post("/token", id_token=token(query["nonce"], "k2"), state=query["state"])
    assert (page.status, keys.asked_anew) == (303, 1)


async def test_without_the_farm_s_keys_nobody_is_signed_in_and_told_why(browser: WebClient, keys: FakeKeys) -> None:
    query, keys.is_there = await asked(browser), False
    page = await browser.post("/token", id_token=token(query["nonce"]), state=query["state"])
    assert (page.status, "The sign-in service is not available." in page.text) == (503, True)


async def test_signing_out_takes_a_form_of_our_own(browser: WebClient) -> None:
    query = await asked(browser)
    await browser.post("/token", id_token=token(query["nonce"]), state=query["state"])
    await browser.get()
    page = browser.page
    assert (await browser.post("/signout", csrf="x" * 43)).status == 403
    assert "alice" in (await browser.get()).text
    browser.page = page
    assert "You have signed out here." in (await browser.post("/signout")).text
    assert "You are not signed in here." in (await browser.get()).text
