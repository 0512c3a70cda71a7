from __future__ import annotations

import pytest

from mfalb.reference.adfs.farm import Context
from mfalb.reference.adfs.trusts import Trusts
from mfalb.reference.config.adfs import RelyingPartyTrust

URI = "https://app.example/token"
TRUSTS = Trusts([RelyingPartyTrust("app", (URI,)), RelyingPartyTrust("other", ("https://other.example/token",))])
GOOD = {
    "client_id": "app",
    "redirect_uri": URI,
    "response_type": "id_token",
    "response_mode": "form_post",
    "scope": "openid profile",
    "nonce": "n",
    "state": "s",
}


def test_a_request_of_a_known_application_is_read() -> None:
    assert TRUSTS.read_untrusted(GOOD, "browser") == Context("app", URI, "n", "s", "browser")


def test_a_state_may_be_left_out() -> None:
    context = TRUSTS.read_untrusted({**GOOD, "state": ""}, "browser")
    assert context is not None
    assert context.state == ""


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "nobody"},
        {"client_id": ""},
        {"redirect_uri": ""},
        {"redirect_uri": "https://evil.example/token"},
        {"redirect_uri": "https://other.example/token"},
        {"redirect_uri": URI + "/"},
        {"redirect_uri": URI + "?x=1"},
        {"redirect_uri": URI + "#x"},
        {"redirect_uri": URI + "/../x"},
        {"redirect_uri": URI.upper()},
        {"redirect_uri": "https://app.example@evil.example/token"},
        {"redirect_uri": "//app.example/token"},
        {"redirect_uri": "javascript:alert(1)"},
        {"response_type": "code"},
        {"response_mode": "query"},
        {"scope": "profile"},
        {"scope": "openidx"},
        {"nonce": ""},
        {"nonce": "n" * 513},
        {"state": "s" * 513},
    ],
)
def test_whatever_else_is_asked_for_is_not_answered(change: dict[str, str]) -> None:
    assert TRUSTS.read_untrusted(GOOD | change, "browser") is None


def test_addresses_of_settings_are_web_addresses() -> None:
    with pytest.raises(ValueError, match="begin with https"):
        RelyingPartyTrust("a", ("javascript:alert(1)",))
