from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from mfalb.reference.config.mfa_server import GroupSettings
from mfalb.reference.config.values import Account, Endpoint
from mfalb.reference.faults import Faults
from mfalb.reference.mfa_server.control import Control, status_of
from mfalb.reference.mfa_server.data.pfdata import Pfdata
from mfalb.reference.mfa_server.group.cluster import Cluster
from mfalb.reference.mfa_server.group.door import Refusals
from mfalb.reference.mfa_server.group.follower import Lag
from mfalb.reference.mfa_server.group.ledger import Ledger
from mfalb.reference.mfa_server.group.member import NotPossible
from mfalb.reference.mfa_server.group.standing import Membership, Role, Standing

ACCOUNT = Account("CONTOSO\\svc-mfa", "pässword")
SIGNED_IN = {"Authorization": ACCOUNT.authorization, "Content-Type": "application/json"}
GROUP = GroupSettings("hq", "activation-code", "file", Endpoint(cert="c", key="k"), "ca.pem")


@dataclass
class FakeMember:
    """Promotes itself and gives up its data at a word."""

    is_master_reached: bool = True
    refuses: str = ""

    async def promote(self) -> int:
        if self.refuses:
            raise NotPossible(self.refuses)
        return 7

    async def discard_local(self) -> str:
        return "/data/copy"


@dataclass
class FakeFollower:
    lag: Lag
    snapshots: int = 3


class Rig:
    def __init__(self, pfdata: Pfdata) -> None:
        standing = Standing(Membership(Role.SLAVE, 2, "mfa1:4443", "license-key"), divergence="what to do")
        self.member = FakeMember()
        nothing: Any = None
        self.cluster = Cluster(
            GROUP,
            standing,
            Ledger(pfdata, standing, lambda: 0.0),
            cast("Any", self.member),
            cast("Any", FakeFollower(Lag(master_sequence=12, level_at=90.0))),
            nothing,
            nothing,
            Refusals(),
            4443,
        )
        self._application = Control("mfa2", ACCOUNT, self.cluster, Faults("slow_s")).application()
        self._application.freeze()

    async def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        payload = StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())
        payload.feed_data(body)
        payload.feed_eof()
        request = make_mocked_request(method, path, headers, app=self._application, payload=payload)
        response = await self._application._handle(request.clone(remote="127.0.0.1"))
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        return response.status, json.loads(response.body)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Pfdata(tmp_path / "PhoneFactor.pfdata") as pfdata:
        yield Rig(pfdata)


async def test_the_status_says_what_a_server_is_and_how_far_behind_and_no_secret(rig: Rig) -> None:
    replica = rig.cluster.ledger.replicas.join("mfa3")
    replica.sent, replica.applied = 9, 8
    status = status_of("mfa2", rig.cluster, now=100.0)
    assert status["slaves"] == {"mfa3": {"sent": 9, "applied": 8, "is_in_step": False}}
    assert (status["role"], status["epoch"], status["master_rpc"]) == ("slave", 2, "mfa1:4443")
    assert status["lag"] == {"changes": 12, "seconds": 9.0}
    assert (status["snapshots_taken"], status["divergence"]) == (3, "what to do")
    code, told = await rig.ask("GET", "/status.json?digest=1", b"", {})
    assert (code, len(told["digest"])) == (200, 64)
    assert not [secret for secret in ("license-key", "activation-code") if secret in json.dumps(told)]


async def test_who_shows_the_account_promotes_and_rejoins(rig: Rig) -> None:
    assert await rig.ask("POST", "/promotion", b"{}", SIGNED_IN) == (200, {"server": "mfa2", "epoch": 7})
    told = await rig.ask("POST", "/rejoin", b'{"discard_local": true}', SIGNED_IN)
    assert told == (200, {"server": "mfa2", "copy": "/data/copy"})


@pytest.mark.parametrize("path", ["/promotion", "/rejoin"])
@pytest.mark.parametrize("authorization", ["", "Basic", "Basic é", Account("svc", "other").authorization])
async def test_who_does_not_show_the_account_changes_nothing(rig: Rig, path: str, authorization: str) -> None:
    code, _ = await rig.ask("POST", path, b'{"discard_local": true}', {**SIGNED_IN, "Authorization": authorization})
    assert code == 401


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 1000])
async def test_a_body_that_is_no_table_changes_nothing(rig: Rig, body: bytes) -> None:
    assert (await rig.ask("POST", "/promotion", body, SIGNED_IN))[0] == 400


async def test_what_is_not_possible_is_said_in_words(rig: Rig) -> None:
    rig.member.refuses = "This server is the master already."
    told = await rig.ask("POST", "/promotion", b"{}", SIGNED_IN)
    assert told == (409, {"error": "This server is the master already."})
    code, told_as_well = await rig.ask("POST", "/rejoin", b"{}", SIGNED_IN)
    assert code == 409
    assert "--discard-local" in told_as_well["error"]
