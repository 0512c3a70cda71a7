import pytest

from mfalb.balancer.config.health_models import CheckTiming, HttpCheck, SdkCheck
from mfalb.balancer.config.models import (
    Backend,
    Config,
    CookieAffinity,
    HttpListener,
    NoAffinity,
    Pins,
    Pool,
    Route,
)
from mfalb.balancer.config.outline import accepted_keys, did_you_mean, discriminator, places, secret_keys, tags
from mfalb.balancer.config.radius_models import RadiusClient, RadiusListener

DATA = {
    "listeners": [
        {"protocol": "https", "routes": [{"pool": "p"}, 5]},
        {"protocol": "radius", "clients": [{}]},
        {"protocol": "quic", "routes": [{}]},
        "text",
    ],
    "pools": {"p": {"backends": [{}], "health_check": {"type": "http"}, "affinity": {"type": []}}, "q": None},
    "zebra": {"pool": {}},
}


def test_every_table_is_found_with_the_model_that_its_tag_names() -> None:
    assert {place.loc: place.table for place in places(DATA)} == {
        (): Config,
        ("listeners", 0): HttpListener,
        ("listeners", 0, "routes", 0): Route,
        ("listeners", 1): RadiusListener,
        ("listeners", 1, "clients", 0): RadiusClient,
        ("listeners", 2): None,
        ("pools", "p"): Pool,
        ("pools", "p", "backends", 0): Backend,
        ("pools", "p", "health_check"): HttpCheck,
        ("pools", "p", "affinity"): None,
    }


def test_only_tables_with_a_tag_are_choices() -> None:
    assert {place.loc for place in places(DATA) if place.is_choice} == {
        ("listeners", 0),
        ("listeners", 1),
        ("listeners", 2),
        ("pools", "p", "health_check"),
        ("pools", "p", "affinity"),
    }


@pytest.mark.parametrize("data", [None, 5, "text", [], [{}]])
def test_what_is_no_table_has_no_places(data: object) -> None:
    assert list(places(data)) == []


def test_a_choice_is_made_by_its_literal_key() -> None:
    assert (discriminator(HttpListener), discriminator(CookieAffinity)) == ("protocol", "type")
    assert tags([HttpListener, RadiusListener]) == ["http", "https", "radius"]
    assert tags([NoAffinity]) == ["none"]


def test_secrets_are_accepted_by_their_sources_only() -> None:
    assert secret_keys(Backend) == {"secret": "secret"}
    assert secret_keys(Pins) == {"cookie_keys": "cookie_keys"}
    assert secret_keys(Route) == {}
    assert accepted_keys(Pins) == ["limit", "cookie_keys_file", "cookie_keys_env", "store"]
    assert accepted_keys(CheckTiming) == ["interval", "fast_interval", "down_interval", "timeout", "rise", "fall"]
    assert accepted_keys(SdkCheck)[4:9] == ["host", "user", "password_file", "password_env", "body_limit"]


@pytest.mark.parametrize(
    ("word", "hint"), [("radus", "; did you mean 'radius'?"), ("zebra", ""), ("", ""), ("RADIUS", "")]
)
def test_a_near_word_is_offered(word: str, hint: str) -> None:
    assert did_you_mean(word, ["http", "radius"]) == hint
