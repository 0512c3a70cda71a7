from __future__ import annotations

from typing import Any

import pytest

from mfalb.reference.config.adfs import AdfsSettings
from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.mfa_server import CacheType, MfaServerSettings, RadiusProtocol
from mfalb.reference.config.tables import read_table
from mfalb.reference.config.values import Endpoint, Method

SERVER: dict[str, Any] = {
    "name": "mfa1",
    "cloud_url": "https://pfd.test",
    "sdk": {"port": 443, "cert": "c", "key": "k"},
    "radius": {"endpoint": {"port": 1812}, "client_network": "10.0.0.0/8", "secret": "radius-secret"},
    "account": {"name": "svc", "password": "password-of-svc"},
    "users": [{"name": "alice", "password": "password-a", "phone": "+1 555 0101", "method": "phone_call"}],
}


def test_a_table_becomes_values_of_their_types_and_what_is_left_out_its_default() -> None:
    rules = [{"type": "user", "seconds": 300}]
    radius = {**SERVER["radius"], "protocols": ["pap"], "caching": rules}
    settings = read_table(MfaServerSettings, {**SERVER, "radius": radius, "group": None})
    assert settings.sdk == Endpoint("127.0.0.1", 443, "c", "k")
    assert settings.radius.protocols == (RadiusProtocol.PAP,)
    assert (settings.radius.caching[0].type, settings.radius.caching[0].seconds) == (CacheType.USER, 300.0)
    assert (settings.users[0].method, settings.users[0].pin) == (Method.PHONE_CALL, None)
    assert settings.group is None


@pytest.mark.parametrize(
    ("kind", "table", "told"),
    [
        (CloudSettings, [], "the settings of a service: a table is wanted"),
        (CloudSettings, {"answer_delay": 1}, "answer_delay: there is no such setting; did you mean answer_delay_s?"),
        (CloudSettings, {"endpoint": {"prot": 1}}, "endpoint.prot: there is no such setting; did you mean port?"),
        (CloudSettings, {"endpoint": {"xyz": 1}}, "endpoint.xyz: there is no such setting; there are host, port, cert"),
        (CloudSettings, {"endpoint": 443}, "endpoint: a table is wanted"),
        (CloudSettings, {"endpoint": {"port": "443"}}, "endpoint.port: a whole number is wanted"),
        (CloudSettings, {"endpoint": {"port": True}}, "endpoint.port: a whole number is wanted"),
        (CloudSettings, {"endpoint": {"port": 65_536}}, "endpoint: port is a number from 0 (any free one) to 65535"),
        (CloudSettings, {"endpoint": {"cert": "c"}}, "endpoint: cert and key go together"),
        (CloudSettings, {"endpoint": {"client_ca": "c"}}, "endpoint: client_ca needs cert and key"),
        (CloudSettings, {"endpoint": {"host": None}}, "endpoint.host: a text is wanted"),
        (CloudSettings, {"ring_s": "long"}, "ring_s: a number is wanted"),
        (CloudSettings, {"activation_codes": "code"}, "activation_codes: a list is wanted"),
        (CloudSettings, {"activation_codes": ["a", 7]}, "activation_codes[1]: a text is wanted"),
        (CloudSettings, {"answering": "maybe"}, "answering: 'maybe' is none of auto, manual"),
        (MfaServerSettings, {}, "name: is missing"),
        (MfaServerSettings, {**SERVER, "users": [{"name": "alice"}]}, "users[0].phone: is missing"),
        (
            MfaServerSettings,
            {**SERVER, "users": [{"name": "alice", "phone": ""}]},
            "users[0]: password or password_hash is wanted",
        ),
        (MfaServerSettings, {**SERVER, "users": [{"name": "a", "password:secret": None}]}, "users[0].?: there is no"),
        (
            MfaServerSettings,
            {**SERVER, "radius": {**SERVER["radius"], "client_network": "10.0.0.1/8"}},
            "radius: client_network: 10.0.0.1/8 has host bits set",
        ),
        (AdfsSettings, {"sdk": {"url": "u"}, "name": "a", "endpoint": {}}, "sdk: the Web Service SDK wants an account"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_what_was_meant(kind: type, table: Any, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        read_table(kind, table)
    assert str(refusal.value).startswith(told)


def test_an_error_shows_no_secret() -> None:
    with pytest.raises(ValueError, match=r"account\.password: a text is wanted") as refusal:
        read_table(MfaServerSettings, {**SERVER, "account": {"name": "svc", "password": 12345678}})
    assert "12345678" not in str(refusal.value)
