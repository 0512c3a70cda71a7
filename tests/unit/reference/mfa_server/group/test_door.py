from __future__ import annotations

from typing import Any

import pytest

from mfalb.reference.mfa_server.group.door import Refusals, _common_name


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        ({"subject": ((("countryName", "DE"),), (("commonName", "mfa2"),))}, "mfa2"),
        ({"subject": ((("countryName", "DE"),),)}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_a_peer_s_name_is_the_common_name_of_its_certificate(certificate: dict[str, Any] | None, name: str) -> None:
    assert _common_name(certificate) == name


def test_refusals_are_counted_by_reason() -> None:
    refusals = Refusals()
    for reason in ("certificate", "certificate", "forged_name"):
        refusals.count(reason, "192.0.2.1")
    assert refusals.counts == {"certificate": 2, "forged_name": 1}
