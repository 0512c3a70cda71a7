"""Promise: what can go wrong with a service goes wrong at a word, is over at a word, and is nobody else's fault.

MFA Servers have files of their own (test_mfa_faults.py; `master_lost` in test_mfa_replication.py), and so have the
cloud's `deny`, `duplicate` and `down` (test_reference_radius.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
import requests
from programs.form_browser import FormBrowser
from programs.handset import Handsets, fetch, set_faults
from programs.mfa_group import USERS
from programs.perimeter import APP_PATH, Perimeter
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radclient import Target, send
from programs.reference_service import ReferenceService

from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.mfa_server import MfaServerSettings, RadiusSettings
from mfalb.reference.config.values import Account, Endpoint
from mfalb.wire.soap import read_envelope_untrusted

TEXTED, CALLED = USERS
SERVICES: Final = {
    "portal1": "/MultiFactorAuth/",
    "app1": APP_PATH,
    "adfs1": "/adfs/probe",
    "party": "/",
    "mfa1": "/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Perimeter]:
    with Perimeter(tmp_path_factory.mktemp("perimeter")) as running:
        yield running


@contextmanager
def faulty(site: Perimeter, name: str, **switches: float | bool) -> Iterator[None]:
    """A service with a fault, and then without."""
    site.set_faults(name, **switches)
    try:
        yield
    finally:
        site.set_faults(name, **{switch: type(value)() for switch, value in switches.items()})


def ask(site: Perimeter, name: str, timeout_s: float = 30.0) -> int:
    """The status of a page that costs the service nothing, asked past the balancer."""
    url = site.own_url(name) + SERVICES[name]
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=timeout_s, verify=str(site.certificate.ca)).status_code


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_slow_hangs_and_is_down_as_long_as_it_is_told_to_be(site: Perimeter, name: str) -> None:
    status = ask(site, name)
    with faulty(site, name, slow_s=0.5):
        begun_at = time.monotonic()
        assert ask(site, name) == status
        assert time.monotonic() - begun_at >= 0.5
    with faulty(site, name, hang=True), pytest.raises(requests.ReadTimeout):
        ask(site, name, 1.0)
    with faulty(site, name, down=True), pytest.raises(requests.ConnectionError):
        ask(site, name)
    assert ask(site, name) == status


@contextmanager
def signing_in(site: Perimeter) -> Iterator[FormBrowser]:
    """Somebody at the portal whose code is on its way."""
    with FormBrowser(site.certificate.ca) as browser:
        browser.get(site.portal_url)
        texts = len(site.group.codes(TEXTED.name))
        page = browser.submit("/login", user=TEXTED.name, password=TEXTED.password)
        assert "Enter your code" in page.text, page.text
        site.code(TEXTED.name, texts + 1)
        yield browser


def test_a_portal_whose_clock_leaps_has_lost_its_sessions(site: Perimeter) -> None:
    with signing_in(site) as browser:
        browser.submit("/otp", otp=site.group.codes(TEXTED.name)[0])
        home = browser.page.served_by
        assert "Your account" in browser.get(site.portal_url).text
        with faulty(site, home, clock_skew_s=1300.0):
            assert "Your session is not known to this server" in browser.get(site.portal_url).text


def test_a_farm_node_whose_clock_leaps_takes_no_form_that_another_one_made(site: Perimeter) -> None:
    with FormBrowser(site.certificate.ca) as browser:
        with faulty(site, "adfs1", clock_skew_s=1000.0), faulty(site, "adfs2", clock_skew_s=-1000.0):
            served = set()
            for number in range(4):
                if number % 2:  # nodes take turns, and a third one shifts who gets the form
                    browser.get(f"{site.issuer}/probe")
                made_by = browser.get(f"{site.party_url}/signin").served_by
                page = browser.submit(user=CALLED.name, password="wrong")
                is_late = (made_by, page.served_by) == ("adfs2", "adfs1")
                assert ("This sign-in is out of date" in page.text) is is_late
                served.add((made_by, page.served_by))
        assert ("adfs2", "adfs1") in served
        browser.get(f"{site.party_url}/signin")
        assert "The user name or password is not right." in browser.submit(user=CALLED.name, password="wrong").text


def test_an_application_whose_clock_is_behind_takes_no_token_before_its_time(site: Perimeter) -> None:
    with FormBrowser(site.certificate.ca) as browser:
        with faulty(site, "party", clock_skew_s=-600.0):
            browser.get(f"{site.party_url}/signin")
            browser.submit(user=CALLED.name, password=CALLED.password)
            page = browser.submit()
            assert (page.status, "This sign-in was not accepted." in page.text) == (403, True)
        assert "not_yet" in site.programs["party"].log()
        browser.get(f"{site.party_url}/signin")
        browser.submit(user=CALLED.name, password=CALLED.password)
        assert "You are signed in as" in browser.submit().text


def restart(site: Perimeter, name: str) -> None:
    """A service that has died lives again, and the balancer knows it."""
    program = site.programs[name]
    wait_until(lambda: not program.is_running(), f"{name} to be dead")
    program.out_path.write_bytes(b"")
    program.start()
    pool = name.rstrip("12")
    wait_until(lambda: site.balancer.backend(pool, name)["health"] == "up", f"{name} to be up", deadline_s=30)


def test_a_portal_that_dies_in_the_middle_of_a_challenge_takes_the_session_with_it(site: Perimeter) -> None:
    with signing_in(site) as browser:  # alive: the fault is set for the portal that comes next
        for name in ("portal1", "portal2"):
            site.set_faults(name, die_mid_challenge=True)
    with signing_in(site) as browser:
        home = browser.page.served_by
        wait_until(lambda: not site.programs[home].is_running(), f"{home} to be dead")
        site.set_faults("portal2" if home == "portal1" else "portal1", die_mid_challenge=False)
        wait_until(lambda: site.balancer.backend("portal", home)["health"] == "down", "its check")
        page = browser.submit("/otp", otp=site.group.codes(TEXTED.name)[0])
        assert "Your session is not known to this server" in page.text
        assert page.served_by != home
    with signing_in(site) as browser:
        assert "Your account" in browser.submit("/otp", otp=site.group.codes(TEXTED.name)[0]).text
    restart(site, home)


def test_a_farm_node_that_dies_in_the_middle_of_a_challenge_is_not_missed(site: Perimeter) -> None:
    for name in ("adfs1", "adfs2"):
        site.set_faults(name, die_mid_challenge=True)
    with FormBrowser(site.certificate.ca) as browser:
        browser.get(f"{site.party_url}/signin")
        texts = len(site.group.codes(TEXTED.name))
        first = browser.submit(user=TEXTED.name, password=TEXTED.password).served_by
        code = site.code(TEXTED.name, texts + 1)
        wait_until(lambda: not site.programs[first].is_running(), f"{first} to be dead")
        page = browser.submit(otp=code)
        assert "You are signed in" in page.text
        assert page.served_by != first
        assert len(site.group.codes(TEXTED.name)) == texts + 1, "the phone got exactly one text"
    site.set_faults("adfs2" if first == "adfs1" else "adfs1", die_mid_challenge=False)
    restart(site, first)


def soap(site: Perimeter, name: str, method: str, arguments: str) -> dict[str, str]:
    url = site.own_url(name) + APP_PATH
    body = f"<Envelope><Body><{method}>{arguments}</{method}></Body></Envelope>"
    answer = requests.post(url, data=body, headers={"Content-Type": "text/xml"}, timeout=30)
    return dict(read_envelope_untrusted(answer.content).texts)


def begin_activation(site: Perimeter) -> str:
    """The confirmation code of an activation that has begun at app1."""
    master = site.mfa_servers[0]
    code = master.call("NewActivation", user=CALLED.name).texts["activationCode"]
    device = f"<ActivationCode>{code}</ActivationCode><DeviceToken>token</DeviceToken><DeviceName>phone</DeviceName>"
    told = soap(site, "app1", "ActivateNew", f"<activationParams>{device}</activationParams>")
    assert told["ActivateNewResult"] == "true", told
    return told["ConfirmationCode"]


def answered(site: Perimeter, confirmation: str) -> str:
    arguments = f"<confirmationCode>{confirmation}</confirmationCode><answer>approve</answer>"
    return soap(site, "app1", "PushAnswer", arguments)["Code"]


def test_a_mobile_app_service_that_dies_or_whose_clock_leaps_has_lost_its_activations(site: Perimeter) -> None:
    assert answered(site, begin_activation(site)) == "0"
    confirmation = begin_activation(site)
    with faulty(site, "app1", clock_skew_s=700.0):
        assert answered(site, confirmation) == "6", "the confirmation code is not known"
    site.set_faults("app1", die_mid_challenge=True)
    confirmation = begin_activation(site)
    restart(site, "app1")
    assert answered(site, confirmation) == "6"


def test_a_cloud_that_is_slow_hangs_or_dies_in_the_middle_of_a_call_signs_nobody_in(tmp_path: Path) -> None:
    control = Endpoint(LOOPBACK)
    cloud_settings = CloudSettings(answer_delay_s=30.0, control=control)
    with ReferenceService("cloud", "cloud_service", cloud_settings, tmp_path) as cloud:
        phones = Handsets(cloud.port("http"))
        radius = RadiusSettings(Endpoint(LOOPBACK), "127.0.0.0/8", "radius-secret")
        account = Account("svc", "a-service-password")
        settings = MfaServerSettings("mfa1", phones.url, Endpoint(LOOPBACK), radius, account, USERS)
        with ReferenceService("mfa1", "mfa_server", settings, tmp_path) as server:
            target = Target(LOOPBACK, server.port("radius"), "radius-secret", timeout_s=1.0, tries=30)
            set_faults(cloud.port("control"), slow_s=0.5)
            begun_at = time.monotonic()
            fetch(f"{phones.url}/counters.json")
            assert time.monotonic() - begun_at >= 0.5
            set_faults(cloud.port("control"), slow_s=0.0, hang=True)
            impatient = Target(LOOPBACK, server.port("radius"), "radius-secret", timeout_s=1.0, tries=2)
            texted = [("User-Name", TEXTED.name), ("User-Password", TEXTED.password)]
            assert send(impatient, [texted]) == [None], "the server waits for the cloud"
            set_faults(cloud.port("control"), hang=False, die_mid_challenge=True)
            called = [("User-Name", CALLED.name), ("User-Password", CALLED.password)]
            (answer,) = send(target, [called])
            assert answer is not None
            assert answer.code == "Access-Reject"
            assert answer.attributes["Reply-Message"] == "The second factor could not be asked for."
            wait_until(lambda: not cloud.is_running(), "the cloud to be dead")
