"""Promise: sessions of the User Portal and activations of the mobile app stay on the server that began them.

Behind one balancer, before a replicated group of MFA Servers; and when the group's master is away, the portal says so,
sign-ins go on, and changes fail clearly.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import zeep
from programs.form_browser import FormBrowser
from programs.mfa_group import ACCOUNT, USERS, wait_until_level
from programs.perimeter import APP_PATH, PINNED, Perimeter
from programs.ports import free_tcp_port
from programs.process import Launch, Logged, Program, wait_until

from mfalb.reference.config.files import write_settings
from mfalb.reference.config.mobile_app import MobileAppSettings
from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.config.values import Account, Endpoint, User
from mfalb.wire.soap import read_envelope_untrusted

TEXTED, CALLED = USERS
NEWCOMERS = (User("carol", "password-of-carol", ""), User("dave", "password-of-dave", ""))  # in the directory only


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Perimeter]:
    with Perimeter(tmp_path_factory.mktemp("perimeter"), newcomers=NEWCOMERS) as running:
        yield running


@contextmanager
def signed_in(site: Perimeter) -> Iterator[FormBrowser]:
    """Somebody at the account page, by a phone call."""
    with FormBrowser(site.certificate.ca) as browser:
        browser.get(site.portal_url)
        browser.submit("/login", user=CALLED.name, password=CALLED.password)
        assert "Your account" in browser.page.text, browser.page.text
        yield browser


def app_client(site: Perimeter) -> Any:
    """The service as an independent SOAP client sees it, with a connection for each call."""
    session = requests.Session()
    session.verify, session.trust_env = str(site.certificate.ca), False
    session.headers["Connection"] = "close"
    transport = zeep.Transport(session=session, operation_timeout=60)  # type: ignore[no-untyped-call]
    return zeep.Client(f"{site.app_url}?wsdl", transport=transport).service  # type: ignore[no-untyped-call]


def new_activation(browser: FormBrowser) -> dict[str, Any]:
    """What an app sends whose user has just got a code from the portal."""
    found = re.search(r'class="secret">(\d{9})<', browser.submit("/activation").text)
    assert found is not None, browser.page.text
    return {
        "ActivationCode": found.group(1),
        "DeviceToken": "a-device-token",
        "DeviceName": "Pixel 8",
        "OathCounter": int(time.time()) // 30,
        "Version": "6.2001.0140",
    }


def confirm(app: Any, code: str, answer: str = "approve") -> tuple[Any, Any]:
    """Both calls as an app makes them: one stays open until the other has brought the answer."""
    with ThreadPoolExecutor(1) as threads:
        confirmed = threads.submit(app.ConfirmActivation, confirmationCode=code)
        answered = app.PushAnswer(confirmationCode=code, answer=answer)
        return confirmed.result(), answered


def test_a_portal_session_and_its_changes_stay_where_they_began(site: Perimeter) -> None:
    homes = set()
    for _ in range(4):
        with signed_in(site) as browser:
            home = browser.page.served_by
            assert {browser.get(site.portal_url).served_by for _ in range(4)} == {home}
            homes.add(home)
    assert homes == {"portal1", "portal2"}


def test_a_user_changes_phone_and_method_and_user_pin_at_the_portal(site: Perimeter) -> None:
    with signed_in(site) as browser:
        page = browser.submit("/phone", phone="+1 555 7777", method="phone_call")
        assert "Your phone and the way to be asked were changed." in page.text
        assert "77</dd>" in page.text
        assert "7777" not in page.text, "phones are masked"
        assert "Your user PIN was changed." in browser.submit("/user-pin", new="4711", again="4711").text
        wrong = browser.submit("/user-pin", current="0000", new="9876", again="9876")
        assert (wrong.status, "The user PIN was not changed." in wrong.text) == (400, True)
    wait_until_level(*site.mfa_servers)


def test_a_newcomer_signs_in_with_the_password_gives_a_phone_and_is_asked_on_it_at_once(site: Perimeter) -> None:
    texted, called = NEWCOMERS
    with FormBrowser(site.certificate.ca) as browser:
        browser.get(site.portal_url)
        page = browser.submit("/login", user=texted.name, password=texted.password)
        assert "No phone is known for" in page.text, page.text
        assert "Please type a phone number" in browser.submit("/enrol", phone="none", method="one_way_sms").text
        page = browser.submit("/enrol", phone="+1 555 0103", method="one_way_sms")
        assert "Enter your code" in page.text, page.text
        assert "Your account" in browser.submit("/otp", otp=site.code(texted.name, 1)).text
    wait_until_level(*site.mfa_servers)
    for server in site.mfa_servers:
        assert server.call("GetUserSettings", user=texted.name).texts["Phone"].endswith("03")
    with FormBrowser(site.certificate.ca) as browser:
        browser.get(site.portal_url)
        browser.submit("/login", user=called.name, password=called.password)
        page = browser.submit("/enrol", phone="+1 555 0104", method="phone_call")
        assert "Your account" in page.text, "the call was answered, and that is all there is to do"


def test_the_client_s_address_is_in_the_mfa_server_s_record_and_cannot_be_made_up(site: Perimeter) -> None:
    with FormBrowser(site.certificate.ca, "127.0.0.7") as browser:
        browser.session.headers["X-Forwarded-For"] = "203.0.113.9"
        browser.get(site.portal_url)
        browser.submit("/login", user=CALLED.name, password=CALLED.password)
        assert "Your account" in browser.page.text, browser.page.text
    logs = "".join(server.program.log() for server in site.mfa_servers)
    assert "client=127.0.0.7" in logs
    assert "203.0.113.9" not in logs


def test_a_bypass_lets_the_next_sign_in_pass_without_the_phone(site: Perimeter) -> None:
    with signed_in(site) as browser:
        assert "For 300 seconds" in browser.submit("/bypass", reason="phone forgotten").text
    wait_until_level(*site.mfa_servers)
    rings = len(site.group.codes(CALLED.name))
    with signed_in(site):
        assert len(site.group.codes(CALLED.name)) == rings


def test_the_app_is_activated_by_calls_over_connections_of_their_own(site: Perimeter) -> None:
    app = app_client(site)
    with signed_in(site) as browser:
        for number in range(4):
            device = new_activation(browser) | {"DeviceName": f"phone {number}"}
            begun = app.ActivateNew(activationParams=device)
            assert (begun.ActivateNewResult, begun.error.Code) == (True, 0)
            assert begun.activationInfo.Username == CALLED.name
            confirmed, answered = confirm(app, begun.activationInfo.ConfirmationCode)
            assert answered.PushAnswerResult is True
            assert (confirmed.ConfirmActivationResult, confirmed.error.Code) == (True, 0)
        # the portal may ask the slave, which has it a moment later when it is not in step
        wait_until(lambda: "<dt>Devices</dt><dd>4</dd>" in browser.get(site.portal_url).text, "four devices")
        assert "The device was removed." in browser.submit("/device", name="phone 3").text
    begun_at = {name: site.programs[name].log().count("activation begun") for name in ("app1", "app2")}
    assert all(begun_at.values()), "activations were spread, so that staying means something"


def test_without_pins_another_server_does_not_know_the_activation(tmp_path: Path) -> None:
    affinity = {**PINNED, "app": {"type": "none"}}
    with Perimeter(tmp_path, affinity=affinity) as site, signed_in(site) as browser:
        app = app_client(site)
        begun = app.ActivateNew(activationParams=new_activation(browser))
        code = begun.activationInfo.ConfirmationCode
        answers = [app.PushAnswer(confirmationCode=code, answer="approve").error.Code for _ in range(2)]
        assert sorted(answers) == [0, 6]


def test_an_activation_that_is_denied_or_made_up_is_refused(site: Perimeter) -> None:
    app = app_client(site)
    with signed_in(site) as browser:
        device = new_activation(browser)
        code = app.ActivateNew(activationParams=device).activationInfo.ConfirmationCode
        confirmed, _ = confirm(app, code, "deny")
        assert (confirmed.ConfirmActivationResult, confirmed.error.Code) == (False, 7)
        again = app.ActivateNew(activationParams=device)
        assert (again.ActivateNewResult, again.error.Code) == (False, 5), "a code is good once"
    made_up = app.ConfirmActivation(confirmationCode="0" * 32)
    assert (made_up.ConfirmActivationResult, made_up.error.Code) == (False, 6)


def test_the_connection_test_says_that_all_is_well(site: Perimeter) -> None:
    tested = app_client(site).TestPfWsSdkConnection()
    assert (tested.TestPfWsSdkConnectionResult, tested.error.Code) == (True, 0)


def wrong_password(site: Perimeter) -> SdkAccess:
    return replace(site.access, account=Account(ACCOUNT.name, "a-wrong-password"))


def wrong_path(site: Perimeter) -> SdkAccess:
    return replace(site.access, url=site.sdk_url.replace("PfWsSdk.asmx", "Nothing.asmx"))


def wrong_port(site: Perimeter) -> SdkAccess:
    return replace(site.access, url=f"https://localhost:{free_tcp_port()}/")


def wrong_name(site: Perimeter) -> SdkAccess:
    return replace(site.access, url=site.sdk_url.replace("localhost", "127.0.0.2"))


def wrong_authority(site: Perimeter) -> SdkAccess:
    return replace(site.access, ca=str(site.group.authority.ca))


@pytest.mark.parametrize(
    ("access_of", "level"),
    [(wrong_password, 1), (wrong_path, 2), (wrong_port, 2), (wrong_name, 3), (wrong_authority, 3)],
)
def test_the_connection_test_says_at_which_level_it_fails(
    site: Perimeter, tmp_path: Path, access_of: Callable[[Perimeter], SdkAccess], level: int
) -> None:
    settings = MobileAppSettings("astray", Endpoint("127.0.0.1", free_tcp_port()), access_of(site))
    write_settings(tmp_path / "astray.json", settings)
    argv = [sys.executable, "-m", "mfalb", "reference", "mobile-app", "-c", str(tmp_path / "astray.json")]
    with Program("astray", argv, tmp_path, ready=Logged("ready {"), launch=Launch(ready_deadline_s=60.0)) as astray:
        answer = requests.post(
            f"http://127.0.0.1:{settings.endpoint.port}{APP_PATH}",
            data="<Envelope><Body><TestPfWsSdkConnection/></Body></Envelope>",
            headers={"Content-Type": "text/xml"},
            timeout=30,
        )
        texts = read_envelope_untrusted(answer.content).texts
        assert (texts["TestPfWsSdkConnectionResult"], texts["Code"]) == ("false", str(level)), texts["Description"]
        assert "a-wrong-password" not in astray.log()


def test_while_the_master_is_away_sign_ins_go_on_and_changes_fail_clearly(tmp_path: Path) -> None:
    with Perimeter(tmp_path) as site:
        master, slave = site.mfa_servers
        with signed_in(site) as browser:
            assert "Read-only" not in browser.page.text
            form = browser.page
            master.kill()
            wait_until(lambda: site.balancer.backend("sdk", master.name)["health"] == "down", "its check")
            wait_until(lambda: not slave.status()["is_master_reached"], "the slave to have noticed", deadline_s=30)
            page = browser.get(site.portal_url)
            assert "<strong>Read-only:</strong> the master server is away" in page.text
            assert "disabled" in page.text
            browser.page = form  # as from a page that was open before
            page = browser.submit("/phone", phone="+1 555 8888")
            assert page.status == 503
            assert "The change could not be made: the master server is not available." in page.text
        with signed_in(site) as browser:
            assert "Read-only" in browser.page.text
        with FormBrowser(site.certificate.ca) as browser:
            browser.get(site.portal_url)
            browser.submit("/login", user=TEXTED.name, password=TEXTED.password)
            assert "Your account" in browser.submit("/otp", otp=site.code(TEXTED.name, 1)).text
        tested = app_client(site).TestPfWsSdkConnection()
        assert (tested.TestPfWsSdkConnectionResult, tested.error.Description) == (
            True,
            "The master server is not available.",
        )
