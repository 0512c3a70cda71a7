from __future__ import annotations

import pytest

from mfalb.reference.config.cloud import Answering, CloudSettings
from mfalb.reference.config.tables import read_table
from mfalb.reference.config.values import Endpoint


def test_an_endpoint_is_all_that_a_file_must_have() -> None:
    assert read_table(CloudSettings, {"endpoint": {}}) == CloudSettings()


def test_what_a_file_says_is_read() -> None:
    settings = read_table(
        CloudSettings,
        {
            "endpoint": {"port": 443, "cert": "c", "key": "k", "client_ca": "a"},
            "activation_codes": ["code-of-ours"],
            "state": "groups.json",
            "answering": "manual",
            "ring_s": 5,
            "handsets": {"port": 1},
            "control": {"port": 2},
        },
    )
    assert settings.endpoint.client_ca == "a"
    assert (settings.activation_codes, settings.state, settings.ring_s) == (("code-of-ours",), "groups.json", 5.0)
    assert settings.answering is Answering.MANUAL
    assert (settings.handsets, settings.control) == (Endpoint(port=1), Endpoint(port=2))
    assert "code-of-ours" not in repr(settings)


def test_who_answers_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="nobody"):
        read_table(CloudSettings, {"endpoint": {}, "answering": "nobody"})
