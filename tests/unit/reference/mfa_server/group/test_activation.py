from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from unit.reference.mfa_server.group.fakes import FakeSession

from mfalb.reference.config.mfa_server import ServerKind
from mfalb.reference.faults import Faults
from mfalb.reference.mfa_server.group.activation import (
    Applicant,
    CloudAway,
    CloudRefused,
    CloudRegistry,
    MembershipFile,
)
from mfalb.reference.mfa_server.group.standing import Membership, Role

APPLICANT = Applicant("mfa1", "hq", ServerKind.STANDALONE, "activation-code")
GOOD = {"group": "hq", "role": "master", "epoch": 1, "master_rpc": "mfa1:4443", "license_key": "key"}


def registry(session: FakeSession, faults: Faults | None = None) -> CloudRegistry:
    return CloudRegistry("https://cloud.test/", APPLICANT, session.session, faults or Faults("cloud_unreachable"))


async def test_a_server_says_who_it_is_and_learns_what_it_is() -> None:
    session = FakeSession((200, GOOD))
    assert await registry(session).activate("mfa1:4443") == Membership(Role.MASTER, 1, "mfa1:4443", "key")
    ((url, question),) = session.asked
    assert url == "https://cloud.test/activation"
    assert question == {
        "server": "mfa1",
        "group": "hq",
        "kind": "standalone",
        "rpc_address": "mfa1:4443",
        "activation_code": "activation-code",
    }


@pytest.mark.parametrize("status", [403, 404, 409])
async def test_a_refusal_comes_with_the_cloud_s_reason_cut_to_what_a_line_holds(status: int) -> None:
    session = FakeSession((status, {"error": "mixed group: \n" + "x" * 5000}))
    with pytest.raises(CloudRefused, match=r"^mixed group: x") as refusal:
        await registry(session).activate("mfa1:4443")
    assert len(str(refusal.value)) == 300
    with pytest.raises(CloudRefused):
        await registry(session).promote(2)


@pytest.mark.parametrize(
    "answer",
    [
        aiohttp.ClientConnectionError("secret"),
        TimeoutError(),
        (500, {}),
        (200, b"no JSON"),
        (200, b"[" * 5000),
        (200, []),
        (200, {**GOOD, "role": "king"}),
        (200, {**GOOD, "role": "not activated"}),
        (200, {**GOOD, "epoch": 0}),
        (200, {**GOOD, "epoch": "1"}),
        (200, {**GOOD, "epoch": True}),
        (200, {**GOOD, "master_rpc": None}),
        (200, {}),
    ],
)
async def test_a_cloud_that_makes_no_sense_counts_as_away(answer: Any) -> None:
    with pytest.raises(CloudAway) as away:
        await registry(FakeSession(answer)).activate("mfa1:4443")
    assert "secret" not in str(away.value)


async def test_a_promotion_names_the_epoch() -> None:
    session = FakeSession((200, {}))
    await registry(session).promote(7)
    assert session.asked == [("https://cloud.test/groups/promotion", {"group": "hq", "server": "mfa1", "epoch": 7})]


async def test_a_cloud_that_is_cut_off_is_not_asked() -> None:
    session, faults = FakeSession((200, GOOD)), Faults("cloud_unreachable")
    faults.set_untrusted({"cloud_unreachable": True})
    with pytest.raises(CloudAway):
        await registry(session, faults).activate("mfa1:4443")
    assert session.asked == []


def test_a_membership_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "membership.json"
    file = MembershipFile(path)
    assert file.read() is None
    for membership in (Membership(Role.MASTER, 1, "mfa1:4443", "key"), Membership(Role.SLAVE, 2, "mfa2:4443")):
        file.write(membership)
        assert file.read() == membership
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"role": "king", "epoch": 1, "master_rpc": "", "license_key": ""}'])
def test_a_damaged_membership_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "membership.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r".+"):
        MembershipFile(path).read()
