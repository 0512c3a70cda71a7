from __future__ import annotations

import logging
import re
from urllib.parse import urlencode

import jwt
import pytest
from unit.reference.adfs.farm_world import CLIENT_ID, ISSUER, REDIRECT_URI, FarmWorld
from unit.reference.fake_sdk import ANSWERED, NOT_ANSWERED
from unit.reference.web_client import Page, WebClient

from mfalb.reference.sdk_client.failures import Level

QUERY = {
    "client_id": CLIENT_ID,
    "redirect_uri": REDIRECT_URI,
    "response_type": "id_token",
    "response_mode": "form_post",
    "scope": "openid",
    "nonce": "nonce-1",
    "state": "state-1",
}
AUTHORIZE = f"/oauth2/authorize?{urlencode(QUERY)}"
START_AGAIN = "Please go back to the application."


@pytest.fixture
def world() -> FarmWorld:
    return FarmWorld()


class Browser(WebClient):
    """Somebody at a farm of two nodes, who meets the other one with each request."""

    def __init__(self, world: FarmWorld) -> None:
        self._nodes = [world.node(name).application() for name in ("adfs1", "adfs2")]
        super().__init__(self._nodes[0], "/adfs")
        self._nodes[1].freeze()

    async def ask(self, method: str, path: str, body: bytes) -> Page:
        page = await super().ask(method, path, body)
        self._nodes.reverse()
        self._application = self._nodes[0]
        return page

    async def first_half(self, **typed: str) -> Page:
        await self.get(AUTHORIZE)
        return await self.post("/ls/password", **({"user": "alice", "password": "right-password"} | typed))


def token_of(page: Page) -> str:
    found = re.search(r'name="id_token" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return found.group(1)


async def test_halves_at_two_nodes_end_in_a_token_for_the_application(world: FarmWorld) -> None:
    browser = Browser(world)
    first = await browser.first_half()
    second = await browser.post("/ls/code", otp="123 456")
    assert (first.served_by, second.served_by) == ("adfs2", "adfs1")
    assert f'action="{REDIRECT_URI}"' in second.text
    assert 'name="state" value="state-1"' in second.text
    key = jwt.PyJWKSet.from_dict(world.signer.key_set()).keys[0]
    claims = jwt.decode(
        token_of(second), key, ["ES256"], audience=CLIENT_ID, issuer=ISSUER, options={"verify_exp": False}
    )
    assert (claims["sub"], claims["nonce"], claims["exp"] - claims["iat"]) == ("alice", "nonce-1", 300)
    assert [call[:3] for call in world.sdk.calls] == [
        ("ValidatePassword", "alice"),
        ("PfAuthUser_4", "alice", "pfsdk"),
        ("VerifyOneWayOtp", "alice", "request-1"),
    ]


async def test_the_page_with_the_token_posts_to_the_application_only_and_is_not_kept(world: FarmWorld) -> None:
    world.sdk.begun = ANSWERED
    page = await Browser(world).first_half()
    assert "form-action https://app.example:8443;" in page.headers["Content-Security-Policy"]
    assert page.headers["Cache-Control"] == "no-store"


async def test_a_denied_call_signs_nobody_in(world: FarmWorld) -> None:
    world.sdk.begun = NOT_ANSWERED
    page = await Browser(world).first_half()
    assert (page.status, "not confirmed" in page.text, "id_token" in page.text) == (403, True, False)


async def test_unknown_users_and_wrong_passwords_look_alike_and_ring_no_phone(world: FarmWorld) -> None:
    pages = []
    for typed in ({"password": "wrong"}, {"user": "nobody"}, {"password": ""}, {"user": " "}):
        page = await Browser(world).first_half(**typed)
        pages.append((page.status, re.sub(r'value="[^"]+"', "", page.text)))
    assert len(set(pages)) == 1
    assert "The user name or password is not right." in pages[0][1]
    assert world.sdk.asked("PfAuthUser_4") == []


@pytest.mark.parametrize(("typed", "told"), [("999999", "was not accepted"), ("12\x0034", "type the digits")])
async def test_a_wrong_code_may_be_typed_again(world: FarmWorld, typed: str, told: str) -> None:
    browser = Browser(world)
    await browser.first_half()
    page = await browser.post("/ls/code", otp=typed)
    assert (page.status, told in page.text) == (403, True)
    assert token_of(await browser.post("/ls/code", otp="123456"))


@pytest.mark.parametrize("change", [{"client_id": "x"}, {"redirect_uri": "https://evil.example/"}, {"nonce": ""}])
async def test_a_request_that_may_not_be_answered_gets_a_page_and_no_way_anywhere(
    world: FarmWorld, change: dict[str, str]
) -> None:
    page = await Browser(world).get(f"/oauth2/authorize?{urlencode(QUERY | change)}")
    assert (page.status, "evil" in page.text, "<form" in page.text) == (400, False, False)
    assert "Location" not in page.headers


async def test_a_form_of_another_browser_does_nothing(world: FarmWorld) -> None:
    mallory, alice = Browser(world), Browser(world)
    await mallory.get(AUTHORIZE)
    await alice.get(AUTHORIZE)
    alice.page = mallory.page
    page = await alice.post("/ls/password", user="alice", password="right-password")
    assert (page.status, START_AGAIN in page.text, world.sdk.calls) == (400, True, [])


@pytest.mark.parametrize("context", ["", "x", "A" * 10_000])
async def test_a_form_that_no_node_made_does_nothing(world: FarmWorld, context: str) -> None:
    browser = Browser(world)
    await browser.get(AUTHORIZE)
    for path in ("/ls/password", "/ls/code"):
        page = await browser.post(path, context=context, user="alice", password="right-password", otp="123456")
        assert (page.status, START_AGAIN in page.text, world.sdk.calls) == (400, True, [])


async def test_the_second_page_cannot_be_reached_without_the_first(world: FarmWorld) -> None:
    browser = Browser(world)
    await browser.get(AUTHORIZE)
    assert (await browser.post("/ls/code", otp="123456")).status == 400
    assert world.sdk.calls == []


async def test_a_code_page_is_good_for_five_minutes(world: FarmWorld) -> None:
    browser = Browser(world)
    await browser.first_half()
    world.now += 301
    assert (await browser.post("/ls/code", otp="123456")).status == 400
    assert world.sdk.asked("VerifyOneWayOtp") == []


async def test_an_sdk_that_is_away_is_told_at_both_halves(world: FarmWorld) -> None:
    browser = Browser(world)
    await browser.first_half()
    world.sdk.failure = Level.UNREACHABLE
    page = await browser.post("/ls/code", otp="123456")
    assert (page.status, "The sign-in service is not available." in page.text) == (503, True)
    page = await Browser(world).first_half()
    assert (page.status, "The sign-in service is not available." in page.text) == (503, True)


async def test_relying_parties_find_keys_and_addresses(world: FarmWorld) -> None:
    browser = Browser(world)
    assert '"kid"' in (await browser.get("/discovery/keys")).text
    assert f'"issuer": "{ISSUER}"' in (await browser.get("/.well-known/openid-configuration")).text
    assert (await browser.get("/probe")).status == 200
    assert (await browser.get("/ls/code")).status == 400


async def test_the_log_names_node_and_event_and_holds_no_secret(
    world: FarmWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    browser = Browser(world)
    await browser.first_half(user="my-mistyped-password")
    await browser.first_half()
    await browser.post("/ls/code", otp="999999")
    token = token_of(await browser.post("/ls/code", otp="123456"))
    logged = [vars(record) for record in caplog.records if record.name == "mfalb.reference.adfs"]
    assert [record["msg"] for record in logged] == ["password refused", "text sent", "code refused", "signed in"]
    secrets = ("my-mistyped-password", "right-password", "999999", "123456", "alice", "request-1", token, "nonce-1")
    assert not [secret for secret in secrets if secret in repr(logged)]
