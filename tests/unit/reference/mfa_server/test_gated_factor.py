from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import aiohttp
import pytest

from mfalb.reference.config.mfa_server import MfaServerSettings, RadiusSettings
from mfalb.reference.config.values import Account, Endpoint, User
from mfalb.reference.faults import Faults
from mfalb.reference.mfa_server.data.pfdata import Pfdata
from mfalb.reference.mfa_server.data.writes import Texts
from mfalb.reference.mfa_server.gated_factor import Gate, GatedFactor
from mfalb.reference.mfa_server.group.follower import MasterAway
from mfalb.reference.mfa_server.group.ledger import Ledger
from mfalb.reference.mfa_server.group.lone import Lone, lone_standing
from mfalb.reference.mfa_server.group.standing import Standing
from mfalb.reference.mfa_server.second_factor import Begun

ALICE = User("alice", "", "+1 555 0101")
RADIUS = RadiusSettings(Endpoint(), "127.0.0.0/8", "secret")
SETTINGS = MfaServerSettings("mfa1", "http://cloud.test", Endpoint(), RADIUS, Account("svc", "secret"), ())


class CloudAsked(Exception):  # noqa: N818 - says what happened
    """The second factor went on to the cloud."""


class NoSession:
    def post(self, *_arguments: object, **_options: object) -> None:
        raise CloudAsked


class NoMaster:
    is_master_reached = False

    async def write(self, _name: str, _texts: Texts) -> dict[str, str]:
        raise MasterAway("not there")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Pfdata(tmp_path / "PhoneFactor.pfdata") as pfdata:
        pfdata.begin_epoch(1)
        yield Ledger(pfdata, lone_standing(), lambda: 1_000_000.0)


def factor(gate: Gate, faults: Faults | None = None) -> GatedFactor:
    session = cast("aiohttp.ClientSession", NoSession())
    return GatedFactor(SETTINGS, session, gate, faults or Faults("cloud_unreachable"))


async def grant_bypass(ledger: Ledger) -> None:
    await ledger.write("AddUser", {"user": "alice", "phone": "+1"})
    await ledger.write("OneTimeBypass", {"user": "alice"})


async def test_a_server_that_is_not_activated_rings_nobody(ledger: Ledger) -> None:
    await grant_bypass(ledger)
    half = await factor(Gate(Standing(), ledger, Lone(ledger))).begin(ALICE, "7")
    assert half.begun is Begun.NOT_ACTIVATED


async def test_a_bypass_lets_one_sign_in_pass_and_the_next_one_is_asked(ledger: Ledger) -> None:
    await grant_bypass(ledger)
    second_factor = factor(Gate(lone_standing(), ledger, Lone(ledger)))
    assert (await second_factor.begin(ALICE, "7")).begun is Begun.AUTHENTICATED
    with pytest.raises(CloudAsked):
        await second_factor.begin(ALICE, "8")


async def test_while_the_master_is_away_a_bypass_lets_nobody_pass(ledger: Ledger) -> None:
    await grant_bypass(ledger)
    with pytest.raises(CloudAsked):
        await factor(Gate(lone_standing(), ledger, NoMaster())).begin(ALICE, "7")


async def test_a_cloud_that_is_cut_off_is_not_asked(ledger: Ledger) -> None:
    faults = Faults("cloud_unreachable")
    faults.set_untrusted({"cloud_unreachable": True})
    half = await factor(Gate(lone_standing(), ledger, Lone(ledger)), faults).begin(ALICE, "7")
    assert half.begun is Begun.CLOUD_UNAVAILABLE
