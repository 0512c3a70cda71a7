from __future__ import annotations

from typing import Any

import pytest

from mfalb.reference.config.adfs import AdfsSettings
from mfalb.reference.config.values import Endpoint


def tables(**more: Any) -> dict[str, Any]:
    return {
        "name": "adfs1",
        "endpoint": {"port": 443},
        "sdk": {"url": "https://mfaapp.contoso.com/", "account": {"name": "svc", "password": "p"}},
        "issuer": "https://sts.contoso.com/adfs",
        "farm_key": "farm.key",
        "token_cert": "token.crt",
        "token_key": "token.key",
        "relying_parties": [],
        **more,
    }


def test_clients_with_certificates_come_to_an_endpoint_of_their_own() -> None:
    certificates = {"port": 49443, "cert": "sts.crt", "key": "sts.key", "client_ca": "devices.pem"}
    settings = AdfsSettings.read(tables(certificate_endpoint=certificates))
    assert settings.certificate_endpoint == Endpoint("127.0.0.1", 49443, "sts.crt", "sts.key", "devices.pem")
    assert AdfsSettings.read(tables()).certificate_endpoint is None


def test_an_endpoint_for_certificates_says_whose() -> None:
    with pytest.raises(ValueError, match="certificate_endpoint needs client_ca"):
        AdfsSettings.read(tables(certificate_endpoint={"port": 49443, "cert": "sts.crt", "key": "sts.key"}))
