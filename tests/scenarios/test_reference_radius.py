"""Promise: an MFA Server's RADIUS side signs in by every method, and nobody's phone rings more or less than once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from programs.handset import Handsets, set_faults
from programs.ms_chap import is_proof, mschapv2, proved
from programs.ports import LOOPBACK
from programs.radclient import Answer, Target, send
from programs.reference_service import ReferenceService

from mfalb.reference.config.cloud import Answering, CloudSettings
from mfalb.reference.config.mfa_server import CacheType, CachingRule, MfaServerSettings, RadiusSettings
from mfalb.reference.config.values import Account, Endpoint, Method, User, UserPin
from mfalb.reference.directory import nt_hash

SECRET: Final = "radius-secret"
PIN: Final = "2468013579"
ACCOUNT: Final = Account("CONTOSO\\svc-mfa", "a-service-password")


def users() -> tuple[User, ...]:
    pin = UserPin.of(PIN)
    return (
        User("texted", "password-texted", "+1 555 0101"),
        User("texted-pin", "password-texted-pin", "+1 555 0102", pin=pin),
        User("called", "password-called", "+1 555 0103", Method.PHONE_CALL),
        User("called-pin", "password-called-pin", "+1 555 0104", Method.PHONE_CALL, pin),
        User("replying", "password-replying", "+1 555 0105", Method.TWO_WAY_SMS),
        User("replying-pin", "password-replying-pin", "+1 555 0106", Method.TWO_WAY_SMS, pin),
        User("pushed", "password-pushed", "+1 555 0107", Method.APP_PUSH, None, "device-token-1"),
        User("pushed-pin", "password-pushed-pin", "+1 555 0108", Method.APP_PUSH, pin, "device-token-2"),
        User("deviceless", "password-deviceless", "+1 555 0109", Method.APP_PUSH),
    )


@dataclass
class Site:
    """The cloud, one MFA Server, and a RADIUS client with its own thread."""

    cloud: ReferenceService
    server: ReferenceService
    handsets: Handsets
    pool: ThreadPoolExecutor

    @property
    def target(self) -> Target:
        return Target(LOOPBACK, self.server.port("radius"), SECRET, parallel=4, timeout_s=2.0, tries=20)

    def begin(self, *requests: list[tuple[str, str]]) -> Future[list[Answer | None]]:
        """Sent, and not waited for."""
        return self.pool.submit(send, self.target, requests)

    def ask(self, request: list[tuple[str, str]]) -> Answer:
        (answer,) = send(self.target, [request])
        assert answer is not None
        return answer

    def rung(self, user: str) -> int:
        """How often the phone has rung or had a text."""
        counters = self.handsets.counters()
        return counters["texts"].get(user, 0) + counters["calls"].get(user, 0)


@contextmanager
def running(run_dir: Path, **radius: Any) -> Iterator[Site]:
    control = Endpoint(LOOPBACK)
    settings = CloudSettings(answering=Answering.MANUAL, ring_s=60.0, control=control)
    with ReferenceService("cloud", "cloud_service", settings, run_dir) as cloud:
        handsets = Handsets(cloud.port("http"))
        front = replace(RadiusSettings(Endpoint(LOOPBACK), "127.0.0.0/8", SECRET), **radius)
        mfa = MfaServerSettings("mfa1", handsets.url, Endpoint(LOOPBACK), front, ACCOUNT, users(), control=control)
        with ReferenceService("mfa1", "mfa_server", mfa, run_dir) as server, ThreadPoolExecutor(8) as pool:
            yield Site(cloud, server, handsets, pool)
            logs = server.log() + cloud.log()
            secrets = [PIN, SECRET, ACCOUNT.password, *(user.password for user in users())]
            assert not [secret for secret in secrets if secret in logs], "a secret is in a log"
            assert "Traceback" not in logs


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("radius")) as site:
        yield site


def pap(user: str, password: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [("User-Name", user), ("User-Password", password), *more]


BLOCKING: Final = [
    ("called", "call", ""),
    ("called-pin", "call", PIN),
    ("replying", "text", "{code}"),
    ("replying-pin", "text", "{code}" + PIN),
    ("pushed", "push", ""),
    ("pushed-pin", "push", PIN),
]


@pytest.mark.parametrize(("user", "kind", "typed"), BLOCKING)
def test_a_blocking_method_accepts_when_the_phone_is_answered_right_and_rings_once(
    site: Site, user: str, kind: str, typed: str
) -> None:
    before = site.rung(user)
    asked = site.begin(pap(user, f"password-{user}"))
    one = site.handsets.wait_for_ring(user)
    assert one["kind"] == kind
    assert one["needs_pin"] is user.endswith("-pin")
    assert not asked.done(), "the request waits for the phone"
    site.handsets.answer(user, "approve", typed.format(code=one["code"]))
    (answer,) = asked.result(60)
    assert answer is not None
    assert answer.code == "Access-Accept"
    assert site.rung(user) == before + 1


WRONG: Final = [
    ("called", "deny", "", "user hung up"),
    ("called", "report", "", "user reported fraud"),
    ("called-pin", "approve", "1357", "wrong user PIN"),
    ("called-pin", "approve", "", "wrong user PIN"),
    ("replying", "approve", "000000x", "wrong reply"),
    ("replying-pin", "approve", "{code}", "wrong user PIN"),
    ("replying-pin", "approve", "{code}1357", "wrong user PIN"),
    ("pushed", "deny", "", "user denied mobile app notification"),
    ("pushed-pin", "approve", "1357", "wrong user PIN"),
]


@pytest.mark.parametrize(("user", "action", "typed", "reason"), WRONG)
def test_a_phone_that_is_answered_wrong_rejects_and_the_log_says_why(
    site: Site, user: str, action: str, typed: str, reason: str
) -> None:
    log = len(site.server.log())
    asked = site.begin(pap(user, f"password-{user}"))
    one = site.handsets.wait_for_ring(user)
    site.handsets.answer(user, action, typed.format(code=one["code"]))
    (answer,) = asked.result(60)
    assert answer is not None
    assert answer.code == "Access-Reject"
    assert f'reason="{reason}"' in site.server.log()[log:]


def test_a_one_way_text_is_answered_by_its_code_once(site: Site) -> None:
    challenge = site.ask(pap("texted", "password-texted"))
    assert challenge.code == "Access-Challenge"
    state, code = ("State", challenge.attributes["State"]), site.handsets.code("texted")
    wrong = site.ask(pap("texted", "000000" if code != "000000" else "111111", state))
    assert wrong.code == "Access-Reject"
    assert site.ask(pap("texted", code, state)).code == "Access-Accept"
    assert site.ask(pap("texted", code, state)).code == "Access-Reject", "a code is good once"
    assert "verification code already used once" in site.server.log()


def test_a_one_way_texts_code_wants_the_user_pin_behind_it(site: Site) -> None:
    for tail, code_of_answer in (("", "Access-Reject"), ("1357", "Access-Reject"), (PIN, "Access-Accept")):
        challenge = site.ask(pap("texted-pin", "password-texted-pin"))
        state, code = ("State", challenge.attributes["State"]), site.handsets.code("texted-pin")
        assert site.ask(pap("texted-pin", code + tail, state)).code == code_of_answer


def test_a_code_that_comes_too_late_is_refused(site: Site) -> None:
    challenge = site.ask(pap("texted", "password-texted"))
    state, code = ("State", challenge.attributes["State"]), site.handsets.code("texted")
    set_faults(site.server.port("control"), clock_skew_s=200.0)
    late = site.ask(pap("texted", code, state))
    set_faults(site.server.port("control"), clock_skew_s=0.0)
    assert late.code == "Access-Reject"


def test_mschapv2_signs_in_shows_the_servers_proof_and_gives_keys(site: Site) -> None:
    asked = site.begin(mschapv2("called", "password-called"))
    site.handsets.answer("called", "approve")
    (answer,) = asked.result(60)
    assert answer is not None
    assert answer.code == "Access-Accept"
    assert is_proof(answer.attributes["MS-CHAP2-Success"], "called", "password-called")
    send_key, receive_key = proved("called", "password-called").keys(nt_hash("password-called"))
    assert answer.attributes["MS-MPPE-Send-Key"] == "0x" + send_key.hex(), "as radclient has revealed it"
    assert answer.attributes["MS-MPPE-Recv-Key"] == "0x" + receive_key.hex()


@pytest.mark.parametrize("user", ["called", "nobody-of-that-name"])
def test_a_wrong_password_and_an_unknown_user_look_alike_and_ring_nobody(site: Site, user: str) -> None:
    before = site.handsets.counters()
    by_pap, by_mschapv2 = site.ask(pap(user, "wrong")), site.ask(mschapv2(user, "wrong"))
    assert by_pap.code == by_mschapv2.code == "Access-Reject"
    text = "The user name or password is not right."
    assert [name for name, _ in by_pap.pairs] == ["Message-Authenticator", "Reply-Message"]
    assert by_pap.attributes["Reply-Message"] == by_mschapv2.attributes["Reply-Message"] == text
    assert "E=691 R=0 C=" in by_mschapv2.attributes["MS-CHAP-Error"]
    assert site.handsets.counters() == before


def test_a_user_whose_app_was_never_activated_is_rejected(site: Site) -> None:
    assert site.ask(pap("deviceless", "password-deviceless")).code == "Access-Reject"
    assert "no mobile app is activated" in site.server.log()


def test_status_server_is_answered_while_a_phone_rings(site: Site) -> None:
    asked = site.begin(pap("called", "password-called"))
    site.handsets.wait_for_ring("called")
    (status,) = send(site.target, [[("NAS-Identifier", "probe")]], "status")
    assert status is not None
    assert status.code == "Access-Accept"
    site.handsets.answer("called", "approve")
    asked.result(60)


@pytest.mark.parametrize(("switches", "rings"), [({"deny": True}, 1), ({"duplicate": True, "deny": True}, 2)])
def test_a_cloud_that_denies_or_rings_twice_is_seen_in_the_counters(
    site: Site, switches: dict[str, bool], rings: int
) -> None:
    before = site.rung("pushed")
    set_faults(site.cloud.port("control"), **switches)
    answer = site.ask(pap("pushed", "password-pushed"))
    set_faults(site.cloud.port("control"), deny=False, duplicate=False)
    assert answer.code == "Access-Reject"
    assert site.rung("pushed") == before + rings


def test_a_cloud_that_is_down_rejects_and_rings_nobody_and_serves_again_when_it_is_up(site: Site) -> None:
    before = site.rung("texted")
    set_faults(site.cloud.port("control"), down=True)
    answer = site.ask(pap("texted", "password-texted"))
    set_faults(site.cloud.port("control"), down=False)
    assert answer.code == "Access-Reject"
    assert site.rung("texted") == before
    assert site.ask(pap("texted", "password-texted")).code == "Access-Challenge"


def test_with_a_caching_rule_requests_of_one_sign_in_share_one_ring(tmp_path: Path) -> None:
    rule = CachingRule(CacheType.USER, 300.0, auth_type="radius")
    with running(tmp_path, caching=(rule,)) as site:
        request = pap("called", "password-called")
        first, second = site.begin([*request, ("NAS-Port", "1")]), site.begin([*request, ("NAS-Port", "2")])
        site.handsets.wait_for_ring("called")
        site.handsets.answer("called", "approve")
        answers = [*first.result(60), *second.result(60), site.ask(request)]
        assert [answer.code for answer in answers if answer is not None] == ["Access-Accept"] * 3
        assert site.rung("called") == 1, "the phone rang exactly once"
        assert site.ask(pap("called", "wrong")).code == "Access-Reject", "the password is checked all the same"
