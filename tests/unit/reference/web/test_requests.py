from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from mfalb.reference.web.requests import is_https, is_own, set_cookie

TOKEN = "t" * 43


@pytest.mark.parametrize(("scheme", "is_tls"), [("https", True), ("HTTPS", True), ("http", False), ("", False)])
def test_cookies_are_kept_from_scripts_and_go_over_tls_where_the_browser_speaks_it(scheme: str, is_tls: bool) -> None:
    request, response = make_mocked_request("GET", "/", {"X-Forwarded-Proto": scheme}), web.Response()
    set_cookie(request, response, "name", "value", "/path")
    cookie = response.cookies["name"]
    assert (cookie["path"], cookie["samesite"], cookie["httponly"]) == ("/path", "Lax", True)
    assert bool(cookie["secure"]) is is_https(request) is is_tls


@pytest.mark.parametrize(
    ("token", "site", "is_good"),
    [(TOKEN, "same-origin", True), (TOKEN, "cross-site", False), ("x" * 43, "same-origin", False)],
)
def test_a_form_is_ours_by_its_token_and_by_what_the_browser_says(token: str, site: str, is_good: bool) -> None:
    request = make_mocked_request("POST", "/", {"Sec-Fetch-Site": site})
    assert is_own(request, {"csrf": token}, TOKEN) is is_good
    assert not is_own(request, {}, TOKEN)
