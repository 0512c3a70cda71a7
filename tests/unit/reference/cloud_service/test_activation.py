from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from unit.reference.cloud_service.asked import Asked
from unit.telemetry.told import told

from mfalb.reference.cloud_service.activation import Activation

CODE = "activation-code-1"
MFA1: dict[str, Any] = {
    "server": "mfa1",
    "group": "contoso",
    "kind": "domain_joined",
    "rpc_address": "10.0.1.11:4443",
    "activation_code": CODE,
}
MFA2 = MFA1 | {"server": "mfa2", "rpc_address": "10.0.1.12:4443"}


class Registrar:
    def __init__(self, state: Path | None = None) -> None:
        self.activation = Activation(["another", CODE], state)
        application = web.Application()
        self.activation.add_routes(application.router)
        self._asked = Asked(application)

    async def activate(self, table: object) -> tuple[int, Any]:
        return await self._asked.post_json("/activation", table)

    async def promote(self, table: object) -> tuple[int, Any]:
        return await self._asked.post_json("/groups/promotion", table)

    async def groups(self) -> Any:
        return await self._asked.json("/groups.json")


@pytest.fixture
def registrar() -> Registrar:
    return Registrar()


async def test_the_first_server_is_told_that_it_is_master_and_the_second_where_the_master_is(
    registrar: Registrar,
) -> None:
    status, first = await registrar.activate(MFA1)
    key = first.pop("license_key")
    assert (status, first) == (
        200,
        {"group": "contoso", "role": "master", "epoch": 1, "master": "mfa1", "master_rpc": "10.0.1.11:4443"},
    )
    status, second = await registrar.activate(MFA2)
    assert (status, second["role"], second["master_rpc"]) == (200, "slave", "10.0.1.11:4443")
    assert registrar.activation.has_issued(key)
    assert registrar.activation.has_issued(second["license_key"])
    assert key != second["license_key"]


async def test_activating_again_is_harmless_and_gives_the_same_key(registrar: Registrar) -> None:
    answers = [(await registrar.activate(MFA1))[1] for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("key", ["", "x", "é"])
async def test_a_license_key_that_was_not_issued_is_none(registrar: Registrar, key: str) -> None:
    await registrar.activate(MFA1)
    assert not registrar.activation.has_issued(key)


async def test_an_unknown_code_activates_nobody_and_stands_in_no_log(
    registrar: Registrar, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    status, answer = await registrar.activate(MFA1 | {"activation_code": "guessed-code"})
    assert (status, answer) == (403, {"error": "the activation code is not known"})
    assert await registrar.groups() == {}
    _, good = await registrar.activate(MFA1)
    text = "".join(told(record) for record in caplog.records)
    assert "guessed-code" not in text
    assert CODE not in text
    assert good["license_key"] not in text


async def test_a_mixed_group_is_refused_and_stays_as_it_was(registrar: Registrar) -> None:
    await registrar.activate(MFA1)
    before = await registrar.groups()
    status, answer = await registrar.activate(MFA2 | {"kind": "standalone"})
    assert status == 409
    assert answer["error"].startswith("mixed group: mfa1 ")
    assert await registrar.groups() == before


async def test_promotion_sets_the_next_epoch_once_and_tells_the_loser_who_won(registrar: Registrar) -> None:
    for server in (MFA1, MFA2):
        await registrar.activate(server)
    status, answer = await registrar.promote({"group": "contoso", "server": "mfa2", "epoch": 2})
    now = {"epoch": 2, "master": "mfa2", "master_rpc": "10.0.1.12:4443"}
    assert (status, answer) == (200, now | {"group": "contoso"})
    status, answer = await registrar.promote({"group": "contoso", "server": "mfa1", "epoch": 2})
    assert status == 409
    assert {key: answer[key] for key in now} == now
    _, old_master = await registrar.activate(MFA1)
    assert (old_master["role"], old_master["epoch"]) == ("slave", 2)


@pytest.mark.parametrize(("group", "server"), [("fabrikam", "mfa1"), ("contoso", "mfa9")])
async def test_a_group_or_server_that_is_not_there_cannot_be_promoted(
    registrar: Registrar, group: str, server: str
) -> None:
    await registrar.activate(MFA1)
    status, answer = await registrar.promote({"group": group, "server": server, "epoch": 2})
    assert status == 404
    assert "error" in answer


async def test_the_list_of_groups_shows_members_and_no_keys(registrar: Registrar) -> None:
    _, answer = await registrar.activate(MFA1)
    await registrar.activate(MFA2)
    groups = await registrar.groups()
    assert groups["contoso"]["members"] == {
        "mfa1": {"kind": "domain_joined", "rpc_address": "10.0.1.11:4443", "role": "master"},
        "mfa2": {"kind": "domain_joined", "rpc_address": "10.0.1.12:4443", "role": "slave"},
    }
    assert answer["license_key"] not in json.dumps(groups)


async def test_groups_epochs_and_keys_outlive_the_cloud(tmp_path: Path) -> None:
    state = tmp_path / "groups.json"
    before = Registrar(state)
    for server in (MFA1, MFA2):
        _, answer = await before.activate(server)
    await before.promote({"group": "contoso", "server": "mfa2", "epoch": 2})
    after = Registrar(state)
    assert await after.groups() == await before.groups()
    assert after.activation.has_issued(answer["license_key"])
    assert (await after.promote({"group": "contoso", "server": "mfa1", "epoch": 2}))[0] == 409


BAD_ACTIVATIONS: list[Any] = [
    [],
    "text",
    None,
    {},
    *({key: value for key, value in MFA1.items() if key != left_out} for left_out in MFA1),
    *(MFA1 | {key: value} for key in MFA1 for value in ("", 7, None, ["x"], "x\ny", "x" * 254)),
    *(MFA1 | {"rpc_address": address} for address in ("host", "host:", ":4443", "a b:1", "::1:4443", "host:123456")),
]


@pytest.mark.parametrize("table", BAD_ACTIVATIONS)
async def test_what_is_no_activation_is_refused(registrar: Registrar, table: object) -> None:
    status, answer = await registrar.activate(table)
    assert status in (400, 403)
    assert "error" in answer
    assert await registrar.groups() == {}


@pytest.mark.parametrize("epoch", [0, -1, "2", 2.0, True, None, 2**53])
async def test_what_is_no_epoch_is_refused(registrar: Registrar, epoch: object) -> None:
    await registrar.activate(MFA1)
    assert (await registrar.promote({"group": "contoso", "server": "mfa1", "epoch": epoch}))[0] == 400


async def test_bytes_that_are_no_json_are_refused(registrar: Registrar) -> None:
    for path in ("/activation", "/groups/promotion"):
        for body in (b"", b"{", b"\xff", b"[" * 100_000):
            assert (await registrar._asked.ask("POST", path, body)).status == 400
