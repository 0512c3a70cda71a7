from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from mfalb.reference.config.values import User
from mfalb.reference.directory import Directory
from mfalb.reference.mfa_server import failures, sdk_answers
from mfalb.reference.mfa_server.data.pfdata import Pfdata
from mfalb.reference.mfa_server.data.writes import Texts
from mfalb.reference.mfa_server.gated_factor import Gate
from mfalb.reference.mfa_server.group.follower import MasterAway
from mfalb.reference.mfa_server.group.ledger import Ledger
from mfalb.reference.mfa_server.group.lone import Lone, Writer, lone_standing
from mfalb.reference.mfa_server.group.standing import Standing
from mfalb.reference.mfa_server.sdk_operations import SdkOperations
from mfalb.reference.mfa_server.sdk_schema import OPERATIONS
from mfalb.reference.mfa_server.second_factor import Begun, FirstHalf, SecondFactor
from mfalb.reference.mfa_server.users import GroupUsers
from mfalb.reference.mfa_server.verification import Outcome

ALICE = User("alice", "password-a", "+1 555 0101")


@dataclass
class FakeSecondFactor:
    """Rings nobody: what it answers is set by the test, and what it was asked is kept."""

    begun: Begun = Begun.TEXT_SENT
    outcome: Outcome = Outcome.ACCEPTED
    asked: list[tuple[str, ...]] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)

    async def begin(self, user: User, request_id: str, client: str = "") -> FirstHalf:
        self.clients.append(client)
        self.asked.append(("begin", user.name, request_id))
        return FirstHalf(self.begun, request_id)

    async def verify(self, user_name: str, request_id: str, otp: str) -> Outcome:
        self.asked.append(("verify", user_name, request_id, otp))
        return self.outcome


class NoMaster:
    is_master_reached = False

    async def write(self, _name: str, _texts: Texts) -> dict[str, str]:
        raise MasterAway("not there")


class Rig:
    """Operations over a file of one user."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.factor = FakeSecondFactor()
        self.standing = lone_standing()
        self.directory = Directory((ALICE,))

    async def call(self, name: str, *, writer: Writer | None = None, **texts: str) -> dict[str, Any]:
        through = writer or Lone(self.ledger)
        gate = Gate(self.standing, self.ledger, through)
        users = GroupUsers(self.directory, self.ledger.pfdata)
        operations = SdkOperations(users, cast("SecondFactor", self.factor), gate, through)
        told = await operations.by_name[name](texts)
        assert list(told) == [result for result, _ in OPERATIONS[name].results], "as the WSDL has it"
        return told


@pytest.fixture
async def rig(tmp_path: Path) -> Any:
    with Pfdata(tmp_path / "PhoneFactor.pfdata") as pfdata:
        pfdata.begin_epoch(1)
        rig = Rig(Ledger(pfdata, lone_standing(), lambda: 1_000_000.0))
        await rig.ledger.import_users((ALICE,))
        yield rig


def shown(failure: failures.Failure) -> dict[str, object]:
    return {"Code": failure.code, "Description": failure.text}


def test_there_is_an_operation_for_each_that_the_wsdl_has(tmp_path: Path) -> None:
    nothing: Any = None
    assert set(SdkOperations(nothing, nothing, nothing, nothing).by_name) == set(OPERATIONS)


@pytest.mark.parametrize(
    ("begun", "is_good", "code", "failure"),
    [
        (Begun.TEXT_SENT, True, sdk_answers.TEXT_SENT, failures.NO_ERROR),
        (Begun.AUTHENTICATED, True, sdk_answers.CALL_ANSWERED, failures.NO_ERROR),
        (Begun.DENIED, False, sdk_answers.CALL_NOT_ANSWERED, failures.NO_ERROR),
        (Begun.CLOUD_UNAVAILABLE, False, sdk_answers.NOT_ATTEMPTED, failures.SERVICE_UNAVAILABLE),
        (Begun.NOT_ACTIVATED, False, sdk_answers.NOT_ATTEMPTED, failures.NOT_ACTIVATED),
    ],
)
async def test_half_one_says_how_it_ended_and_gives_the_id_for_half_two(
    rig: Rig, begun: Begun, code: int, failure: failures.Failure, *, is_good: bool
) -> None:
    rig.factor.begun = begun
    told = await rig.call("PfAuthUser_4", username="ALICE")
    ((verb, user, request_id),) = rig.factor.asked
    assert (verb, user) == ("begin", "alice"), "the group's own spelling"
    assert told == {
        "PfAuthUser_4Result": is_good,
        "callResult": {"Code": code},
        "authreqid": request_id,
        "error": shown(failure),
    }


@pytest.mark.parametrize(
    ("told", "kept"),
    [("192.0.2.7", "192.0.2.7"), ("2001:DB8::7", "2001:db8::7"), ("", ""), ("not\nan address", ""), ("x" * 900, "")],
)
async def test_the_client_s_address_goes_into_the_record_if_it_is_one(rig: Rig, told: str, kept: str) -> None:
    await rig.call("PfAuthUser_4", username="alice", ipAddress=told)
    assert rig.factor.clients == [kept]


@pytest.mark.parametrize("name", ["nobody", ""])
async def test_an_unknown_user_is_told_and_nobody_is_rung(rig: Rig, name: str) -> None:
    told = await rig.call("PfAuthUser_4", username=name)
    assert (told["PfAuthUser_4Result"], told["error"]) == (False, shown(failures.UNKNOWN_USER))
    assert rig.factor.asked == []


@pytest.mark.parametrize("outcome", list(Outcome))
async def test_half_two_is_true_for_an_accepted_code_only_and_says_no_more(rig: Rig, outcome: Outcome) -> None:
    rig.factor.outcome = outcome
    told = await rig.call("VerifyOneWayOtp", username="alice", authreqid="7", otp="123456")
    is_good = outcome is Outcome.ACCEPTED
    failure = failures.NO_ERROR if is_good else failures.CODE_REFUSED
    assert told == {"VerifyOneWayOtpResult": is_good, "error": shown(failure)}
    assert rig.factor.asked == [("verify", "alice", "7", "123456")]


async def test_half_two_without_its_arguments_is_judged_with_empty_ones(rig: Rig) -> None:
    await rig.call("VerifyOneWayOtp")
    assert rig.factor.asked == [("verify", "", "", "")]


async def test_test_security_says_secure(rig: Rig) -> None:
    assert await rig.call("TestSecurity") == {"TestSecurityResult": "secure"}


async def test_whether_the_master_is_reached_is_told(rig: Rig) -> None:
    assert (await rig.call("TestMasterConnection"))["TestMasterConnectionResult"] is True
    told = await rig.call("TestMasterConnection", writer=NoMaster())
    assert told == {"TestMasterConnectionResult": False, "error": shown(failures.NO_MASTER)}


async def test_a_wrong_password_and_an_unknown_name_have_the_same_answer(rig: Rig) -> None:
    right = await rig.call("ValidatePassword", username="alice", password="password-a")
    assert right["ValidatePasswordResult"] is True
    wrong = [await rig.call("ValidatePassword", username=name, password="wrong") for name in ("alice", "nobody")]
    assert wrong[0] == wrong[1] == {"ValidatePasswordResult": False, "error": shown(failures.NO_ERROR)}


async def test_a_wrong_password_and_an_unknown_name_cost_the_same_slow_hash(rig: Rig) -> None:
    hashed: list[str] = []

    def counted(password: str, _salt: bytes) -> bytes:
        hashed.append(password)
        return password.encode()

    rig.directory = Directory((ALICE,), counted)
    hashed.clear()
    for name in ("alice", "nobody"):
        await rig.call("ValidatePassword", username=name, password="wrong")
    assert hashed == ["wrong", "wrong"]


async def test_settings_hide_the_phone_and_an_unknown_user_has_none(rig: Rig) -> None:
    found = await rig.call("GetUserSettings", user="Alice")
    assert found["userSettings"] == {
        "Enabled": True,
        "Method": "one_way_sms",
        "Phone": "+* *** **01",
        "HasUserPin": False,
        "Devices": 0,
    }
    missing = await rig.call("GetUserSettings", user="nobody")
    assert (missing["GetUserSettingsResult"], missing["error"]) == (False, shown(failures.UNKNOWN_USER))


WRITES = sorted(set(OPERATIONS) - {"PfAuthUser_4", "TestSecurity", "TestMasterConnection", "GetUserSettings"}
                - {"ValidatePassword", "VerifyOneWayOtp"})  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
async def test_no_write_is_made_without_a_master_activation_or_a_common_past(rig: Rig, name: str) -> None:
    for standing, failure in (
        (lone_standing(), failures.NO_MASTER),
        (Standing(), failures.NOT_ACTIVATED),
        (Standing(lone_standing().membership, divergence="what to do"), failures.DIVERGENT),
    ):
        rig.standing = standing
        told = await rig.call(name, writer=NoMaster(), user="alice")
        assert (told[f"{name}Result"], told["error"]) == (False, shown(failure))


async def test_a_write_gives_back_what_it_made(rig: Rig) -> None:
    given = await rig.call("NewActivation", user="alice")
    assert given["NewActivationResult"] is True
    device = await rig.call(
        "ActivateDevice", activationCode=given["activationCode"], deviceToken="token", deviceName="phone"
    )
    info = device["activationInfo"]
    assert (device["ActivateDeviceResult"], info["Username"]) == (True, "alice")
    assert (await rig.call("ConfirmDevice", confirmationCode=info["ConfirmationCode"]))["ConfirmDeviceResult"] is True


async def test_a_write_that_is_refused_says_why(rig: Rig) -> None:
    told = await rig.call("AddUser", user="alice", phone="+1")
    assert told == {"AddUserResult": False, "error": {"Code": 5, "Description": "The user is known already."}}
