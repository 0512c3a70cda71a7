"""Promise: a SOAP client that knows nothing but the WSDL calls every operation of the SDK, on any server."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests
from programs.certificates import Authority
from programs.mfa_group import ACCOUNT, SDK_PATH, USERS, MfaGroup, MfaServer
from programs.ports import LOOPBACK
from zeep import Client
from zeep.transports import Transport

from mfalb.reference.config.mfa_server import CallerCertificates
from mfalb.reference.mfa_server.sdk_schema import OPERATIONS

ALICE, BOB = USERS
PHONE = "+1 555 0177"


@pytest.fixture
def group(tmp_path: Path) -> Iterator[MfaGroup]:
    with MfaGroup(tmp_path) as running:
        yield running


class Zeep:
    """Calls by zeep, and remembers which operations were called."""

    def __init__(self, server: MfaServer) -> None:
        self.session = requests.Session()
        self.session.auth = (ACCOUNT.name, ACCOUNT.password)
        url = f"http://{LOOPBACK}:{server.settings.sdk.port}{SDK_PATH}?wsdl"
        self.client = Client(url, transport=Transport(session=self.session))  # type: ignore[no-untyped-call]  # zeep
        self.called: set[str] = set()

    def __call__(self, operation: str, **arguments: Any) -> Any:
        self.called.add(operation)
        return self.client.service[operation](**arguments)


@pytest.fixture
def slave(group: MfaGroup) -> MfaServer:
    return group.pair()[1]


def test_zeep_calls_every_operation_that_the_wsdl_has(group: MfaGroup, slave: MfaServer) -> None:
    call = Zeep(slave)
    assert call("TestSecurity") == "secure"
    assert call("TestMasterConnection").TestMasterConnectionResult is True
    sign_in_by_text(group, call)
    administer_carol(call)
    activate_a_device(call)
    assert call("Disable", user="carol", requestedBy="admin").DisableResult is True
    assert call("GetUserSettings", user="carol").userSettings.Enabled is False
    assert call("PfAuthUser_4", username="carol").PfAuthUser_4Result is False
    assert call.called == set(OPERATIONS)


def sign_in_by_text(group: MfaGroup, call: Zeep) -> None:
    right = call("ValidatePassword", username="ALICE", password=ALICE.password)
    assert right.ValidatePasswordResult is True
    half_one = call("PfAuthUser_4", username="alice", authenticationType="pfsdk", appName="test", flag=False)
    assert (half_one.PfAuthUser_4Result, half_one.callResult.Code, half_one.error.Code) == (True, 5, 0)
    code = group.codes("alice")[0]
    wrong = call("VerifyOneWayOtp", username="alice", authreqid=half_one.authreqid, otp="000000x")
    assert (wrong.VerifyOneWayOtpResult, wrong.error.Code) == (False, 3)
    assert call("VerifyOneWayOtp", username="alice", authreqid=half_one.authreqid, otp=code).VerifyOneWayOtpResult


def administer_carol(call: Zeep) -> None:
    assert call("AddUser", user="carol", phone=PHONE, method="phone_call", requestedBy="admin").AddUserResult is True
    assert call("AddUser", user="CAROL", phone=PHONE).AddUserResult is False, "names are the same in any case"
    found = call("GetUserSettings", user="Carol")
    assert found.GetUserSettingsResult is True
    settings = found.userSettings
    shown = (settings.Enabled, settings.Method, settings.Phone, settings.HasUserPin, settings.Devices)
    assert shown == (True, "phone_call", "+* *** **77", False, 0)
    assert call("UpdateUser", user="carol", phone="", method="one_way_sms").UpdateUserResult is True
    assert call("GetUserSettings", user="carol").userSettings.Method == "one_way_sms"
    assert call("ChangeUserPin", user="carol", currentPin="", newPin="471147").ChangeUserPinResult is True
    assert call("ChangeUserPin", user="carol", currentPin="0000", newPin="1234").ChangeUserPinResult is False
    assert call("ChangeUserPin", user="carol", currentPin="471147", newPin="1234").ChangeUserPinResult is True
    assert call("GetUserSettings", user="carol").userSettings.HasUserPin is True
    bypass = call("OneTimeBypass", user="carol", reason="phone lost", seconds=60, requestedBy="admin")
    assert bypass.OneTimeBypassResult is True
    first, second = (call("PfAuthUser_4", username="carol") for _ in range(2))
    assert (first.callResult.Code, second.callResult.Code) == (1, 5), "one sign-in is let through, the next is asked"


def activate_a_device(call: Zeep) -> None:
    given = call("NewActivation", user="carol", requestedBy="admin")
    assert given.NewActivationResult is True
    assert re.fullmatch(r"[0-9]{9}", given.activationCode)
    arguments: dict[str, Any] = {
        "deviceToken": "token",
        "deviceName": "phone",
        "oathCounter": 58_000_000,
        "version": "6",
    }
    device = call("ActivateDevice", activationCode=given.activationCode, **arguments)
    assert (device.ActivateDeviceResult, device.activationInfo.Username) == (True, "carol")
    assert call("ActivateDevice", activationCode=given.activationCode, **arguments).ActivateDeviceResult is False
    assert call("GetUserSettings", user="carol").userSettings.Devices == 0, "it counts when it was confirmed"
    confirmation = device.activationInfo.ConfirmationCode
    assert call("ConfirmDevice", confirmationCode=confirmation).ConfirmDeviceResult is True
    assert call("ConfirmDevice", confirmationCode=confirmation).ConfirmDeviceResult is False
    assert call("GetUserSettings", user="carol").userSettings.Devices == 1
    assert call("RemoveDevice", user="carol", deviceName="phone").RemoveDeviceResult is True
    assert call("GetUserSettings", user="carol").userSettings.Devices == 0


def test_stand_ins_say_in_the_wsdl_that_they_are_ours(slave: MfaServer) -> None:
    call = Zeep(slave)
    url = f"http://{LOOPBACK}:{slave.settings.sdk.port}{SDK_PATH}?wsdl"
    wsdl = call.session.get(url, timeout=10).text
    operations = re.findall(r'<wsdl:operation name="(\w+)">\s*<wsdl:documentation>Stand-in', wsdl)
    assert set(operations) == {name for name, operation in OPERATIONS.items() if operation.note}
    assert "PfAuthUser_4" not in operations


def test_a_bypass_is_good_for_one_sign_in_of_the_whole_group(group: MfaGroup) -> None:
    master, slave = group.pair()
    assert slave.call("OneTimeBypass", user="alice", seconds="60").is_good
    slave.call("PfAuthUser_4", username="alice")
    assert group.codes("alice") == []
    for server in (slave, master):
        server.call("PfAuthUser_4", username="alice")
    assert len(group.codes("alice")) == 2


# ------------------------------------------------------------------------------------ callers


def test_a_caller_with_the_mapped_certificate_needs_no_password_and_another_s_is_of_no_use(
    group: MfaGroup, tmp_path: Path
) -> None:
    callers = Authority(tmp_path / "callers", "authority of the callers")
    portal, other = callers.issue("portal", "portal"), callers.issue("other", "other")
    tls = group.authority.issue("sdk", "mfaapp.contoso.com", "localhost")
    settings = group.settings("mfa1")
    fingerprint = sha256(ssl.PEM_cert_to_DER_cert(portal.cert.read_text())).hexdigest().upper()
    server = group.add(
        replace(
            settings,
            sdk=replace(settings.sdk, cert=str(tls.cert), key=str(tls.key)),
            callers=CallerCertificates(str(callers.ca), (fingerprint,)),
        )
    )
    group.run(server)
    url = f"https://localhost:{settings.sdk.port}{SDK_PATH}"

    def status(files: Any, account: tuple[str, str] | None) -> int:
        cert = None if files is None else (str(files.cert), str(files.key))
        return requests.get(url, cert=cert, auth=account, verify=str(group.authority.ca), timeout=10).status_code

    assert status(portal, None) == 200
    assert status(other, None) == 401
    assert status(None, None) == 401
    assert status(other, (ACCOUNT.name, ACCOUNT.password)) == 200
    stranger = Authority(tmp_path / "stranger").issue("portal", "portal")
    with pytest.raises(requests.ConnectionError):
        status(stranger, (ACCOUNT.name, ACCOUNT.password))


@pytest.mark.parametrize("operation", ["ValidatePassword", "ChangeUserPin"])
def test_an_unknown_user_looks_exactly_like_a_wrong_password(slave: MfaServer, operation: str) -> None:
    answers = []
    for user in ("alice", "nobody"):
        texts = {"username": user, "password": "wrong"} if operation == "ValidatePassword" else {
            "user": user, "currentPin": "0000", "newPin": "12"
        }  # fmt: skip
        answers.append(dict(slave.call(operation, **texts).texts))
    assert answers[0] == answers[1]
    assert answers[0][f"{operation}Result"] == "false"


def test_no_user_pin_and_no_activation_code_is_in_any_log_or_in_clear_in_the_file(group: MfaGroup) -> None:
    master, slave = group.pair()
    assert slave.call("ChangeUserPin", user="alice", newPin="90210777").is_good
    code = slave.call("NewActivation", user="alice").texts["activationCode"]
    for server in (master, slave):
        log = server.program.log()
        assert "90210777" not in log
        assert code not in log
        server.program.stop()
        files = list(server.data.parent.iterdir())
        assert not [file for file in files if b"90210777" in file.read_bytes()]
