"""Promise: the firewall matrix that `mfalb check --flows` prints is sufficient, and none of its rules may be missing.

The deployment of conf/contoso runs with each host in a network namespace of its own. The router between them drops
everything but what the printed rules let through.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import requests
from programs.contoso_site import BROWSER, CONF, ContosoSite
from programs.form_browser import FormBrowser
from programs.host_network import addresses_in
from programs.process import wait_until
from programs.radclient import Target, send

from mfalb.wire.soap import read_envelope_untrusted

FILES = sorted(str(path.relative_to(CONF)) for path in CONF.glob("*/*.yaml"))
TEXTED, CALLED = ("alice", "made-up-password-of-alice"), ("bob", "made-up-password-of-bob")
PORTAL = "https://mfa.contoso.com/MultiFactorAuth/"
APP_PATH = "/MultiFactorAuthMobileAppWebService/PfPaWs.asmx"
APP = f"https://mfa.contoso.com{APP_PATH}"
APP_BEHIND = f"https://mfa.contoso.com:8443{APP_PATH}"
SDK_BEHIND = "https://mfaapp.contoso.com/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx"
ADDRESSES = addresses_in((CONF / "hosts").read_text("utf-8"))
EXPENSES = "https://expenses.contoso.com"
PROBE = "/adfs/probe"
PAGES = {"10.0.3.10": PORTAL, "10.0.3.11": f"https://sts.contoso.com{PROBE}", "203.0.113.20": EXPENSES}
WAIT_S = 20.0
MISSED_S = 1.5  # what is not there in this time, and is in less with its rule, does not come


@cache
def matrix(form: str) -> str:
    command = [sys.executable, "-m", "mfalb", "check", "--flows", "--format", form, "--hosts", "hosts", *FILES]
    return subprocess.run(command, cwd=CONF, capture_output=True, text=True, check=True).stdout


Flow = dict[str, Any]


def all_flows() -> list[Flow]:
    found: list[Flow] = json.loads(matrix("json"))["flows"]
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContosoSite]:
    with ContosoSite(tmp_path_factory.mktemp("site")) as running, running.names():
        running.network.load(matrix("nftables"))
        running.start()
        yield running


# ------------------------------------------------------------------------------ what people and devices do


@contextmanager
def browsing(site: ContosoSite, *, limit_s: float = WAIT_S) -> Iterator[FormBrowser]:
    with FormBrowser(site.ca, timeout_s=limit_s) as browser:
        yield browser


def new_code(site: ContosoSite, texts: int) -> str:
    user, _ = TEXTED
    wait_until(lambda: len(site.codes(user)) > texts, f"a text to {user}", deadline_s=WAIT_S)
    return site.codes(user)[0]


def sign_in_at_the_portal(site: ContosoSite, browser: FormBrowser) -> str:
    """By a text; returns the portal that did it."""
    user, password = TEXTED
    texts = len(site.codes(user))
    browser.get(PORTAL)
    browser.submit("/login", user=user, password=password)
    served_by = browser.submit("/otp", otp=new_code(site, texts)).served_by
    assert "Your account" in browser.page.text, browser.page.text
    return served_by


def sign_in_at_adfs(site: ContosoSite, browser: FormBrowser) -> set[str]:
    """For the application, by a text; returns the nodes that did it."""
    user, password = TEXTED
    texts = len(site.codes(user))
    browser.get(f"{EXPENSES}/signin")
    first = browser.submit(user=user, password=password).served_by
    second = browser.submit(otp=new_code(site, texts)).served_by
    assert f"You are signed in as <strong>{user}</strong>" in browser.submit().text, browser.page.text
    browser.submit("/signout")
    return {first, second}


def activate_an_app(browser: FormBrowser) -> None:
    """With a code from the portal that somebody is signed in at."""
    found = re.search(r'class="secret">(\d{9})<', browser.submit("/activation").text)
    assert found is not None, browser.page.text
    call = (
        f"<ActivationCode>{found[1]}</ActivationCode><DeviceToken>a-token</DeviceToken><DeviceName>Pixel 8</DeviceName>"
        f"<OathCounter>{int(time.time()) // 30}</OathCounter>"
    )
    body = f"<Envelope><Body><ActivateNew>{call}</ActivateNew></Body></Envelope>"
    answer = requests.post(APP, body, headers={"Content-Type": "text/xml"}, verify=browser.session.verify, timeout=60)
    assert read_envelope_untrusted(answer.content).texts["ActivateNewResult"] == "true", answer.text


def sign_in_by_radius(site: ContosoSite) -> None:
    """By a text, from behind the VPN gateway."""
    user, password = TEXTED
    texts = len(site.codes(user))
    target = Target("10.0.1.10", 1812, site.secret("clients", "secrets", "vpn"))
    (asked,) = site.network.at("vpn", send, target, [[("User-Name", user), ("User-Password", password)]])
    assert asked is not None
    assert asked.code == "Access-Challenge"
    reply = [("User-Name", user), ("User-Password", new_code(site, texts)), ("State", asked.attributes["State"])]
    (answered,) = site.network.at("vpn", send, target, [reply])
    assert answered is not None
    assert answered.code == "Access-Accept"


def repeat_until(names: set[str], do: Callable[[], set[str]]) -> None:
    """Until each of them has done it: workers take turns each by itself, and so one of two may come again and again."""
    seen: set[str] = set()
    end_s = time.monotonic() + WAIT_S
    while not names <= seen:
        assert time.monotonic() < end_s, f"only {seen} of {names}"
        seen |= do()


def certificate_page(site: ContosoSite, limit_s: float = WAIT_S) -> str:
    pair = ("--cert", f"{site.device}.crt", "--key", f"{site.device}.key")
    return site.curl(BROWSER, f"https://sts.contoso.com:49443{PROBE}", *pair, limit_s=limit_s)


# ------------------------------------------------------------------------------ what each flow is for


def works(site: ContosoSite, flow: Flow) -> bool:
    """Whether the function works that a flow is for; what takes longer than it should does not."""
    source, to, port = host_of(flow["sources"][0]), host_of(flow["destination"]), flow["port"]
    match source, to, port:
        case "any", _, 49443:
            is_working = bool(certificate_page(site, MISSED_S))
        case "any", _, 443 if flow["destination"] in PAGES:
            is_working = bool(site.curl(BROWSER, PAGES[flow["destination"]], limit_s=MISSED_S))
        case "10.0.5.0/24", _, 1812:
            is_working = is_radius_answered(site)
        case (("balancer-inside" | "balancer-perimeter"), _, _):
            is_working = site.is_up(source, flow["purposes"][0].removeprefix("pool "), to)
        case _, "balancer-inside", 443 if source.startswith("adfs"):
            is_working = does_node_ask(site, source)
        case _, "balancer-inside", 443:
            is_working = is_good(site, APP_BEHIND, source, "TestPfWsSdkConnection")
        case _, "cloud", 443:
            is_working = is_good(site, SDK_BEHIND, source, "PfAuthUser_4", username=TEXTED[0])
        case _, _, 4443:  # what a slave is told to write its master writes
            is_working = is_good(site, SDK_BEHIND, source, "UpdateUser", user="dave", phone="+1 555 0104")
        case _:
            raise AssertionError(f"nobody knows what this is for: {flow}")
    return is_working


def is_good(site: ContosoSite, url: str, server: str, operation: str, **texts: str) -> bool:
    return site.call(url, server, operation, limit_s=MISSED_S, **texts).get(f"{operation}Result") == "true"


def host_of(address: str) -> str:
    return next((name for name, known in ADDRESSES.items() if address in known), address)


def is_radius_answered(site: ContosoSite) -> bool:
    target = Target("10.0.1.10", 1812, site.secret("clients", "secrets", "vpn"), timeout_s=MISSED_S, tries=1)
    wrong = [("User-Name", "nobody"), ("User-Password", "wrong")]
    return site.network.at("vpn", send, target, [wrong]) != [None]


def does_node_ask(site: ContosoSite, node: str) -> bool:
    """Whether a sign-in that comes to a node of the farm gets as far as to a text."""
    user, password = TEXTED

    def begin() -> str:
        with FormBrowser(site.ca, timeout_s=2 * MISSED_S) as browser:
            browser.get(f"{EXPENSES}/signin")
            return browser.submit(user=user, password=password).served_by

    try:
        repeat_until({node}, lambda: {site.network.at(BROWSER, begin)})
    except requests.Timeout:
        return False
    return True


# ------------------------------------------------------------------------------ sufficient


def test_with_the_printed_rules_alone_everything_works_and_every_rule_is_used(site: ContosoSite) -> None:
    def at_the_portal() -> set[str]:
        with browsing(site) as browser:
            served_by = site.network.at(BROWSER, sign_in_at_the_portal, site, browser)
            site.network.at(BROWSER, activate_an_app, browser)
        return {served_by}

    def at_adfs() -> set[str]:
        with browsing(site) as browser:
            return site.network.at(BROWSER, sign_in_at_adfs, site, browser)

    repeat_until({"up-mas1", "up-mas2"}, at_the_portal)
    repeat_until({"adfs1", "adfs2"}, at_adfs)
    sign_in_by_radius(site)
    assert certificate_page(site)
    wait_until(site.is_level, "what was written to be on both MFA Servers", deadline_s=WAIT_S)
    site.promote("mfa2")  # from here on it is mfa1 that opens the connection
    wait_until(site.is_level, "mfa1 to follow mfa2", deadline_s=WAIT_S)
    sign_in_by_radius(site)

    *rules, dropped = [one for one in site.network.counted() if one.comment != "invalid"]
    assert len(rules) == len(all_flows())
    assert [rule.comment for rule in rules if rule.packets == 0] == []
    assert dropped.packets == 0, "something wanted what no rule is for"


# ------------------------------------------------------------------------------ minimal


@contextmanager
def without(site: ContosoSite, flows: list[Flow]) -> Iterator[None]:
    """The router without the rules of these flows, and without any memory that it let them through."""
    lines = matrix("nftables").splitlines()
    first = next(number for number, line in enumerate(lines) if "ct state new counter accept" in line)
    missing = {first + all_flows().index(flow) for flow in flows}
    site.network.load("\n".join(line for number, line in enumerate(lines) if number not in missing))
    for flow in flows:
        site.network.forget(flow["destination"], flow["transport"], flow["port"])
    try:
        yield
    finally:
        site.network.load(matrix("nftables"))


def is_to_backend(flow: Flow) -> bool:
    return host_of(flow["sources"][0]).startswith("balancer-")


def title(flow: Flow) -> str:
    return f"{', '.join(flow['sources'])} -> {flow['destination']} {flow['transport']} {flow['port']}"


def needed(site: ContosoSite, flow: Flow) -> bool:
    """Whether what works with all rules does not without the rule of this flow."""
    if flow["port"] == 4443 and site.status(host_of(flow["sources"][0]))["role"] == "master":
        site.promote(host_of(flow["destination"]))  # the connection is its slave's
    wait_until(lambda: works(site, flow), f"what {title(flow)} is for", deadline_s=WAIT_S)
    with without(site, [flow]):
        return not works(site, flow)


def test_without_any_one_rule_its_function_fails(site: ContosoSite) -> None:
    flows = [flow for flow in all_flows() if not is_to_backend(flow)]
    assert [title(flow) for flow in flows if not needed(site, flow)] == []


@pytest.mark.parametrize("number", [1, 2])
def test_without_its_rule_a_backend_is_down_and_the_others_stay_up(site: ContosoSite, number: int) -> None:
    flows = [flow for flow in all_flows() if is_to_backend(flow)]
    cut = [flow for flow in flows if host_of(flow["destination"]).endswith(str(number))]
    assert len(cut) == len(flows) / 2
    wait_until(lambda: all(works(site, flow) for flow in flows), "all up", deadline_s=WAIT_S)
    with without(site, cut):
        wait_until(
            lambda: not any(works(site, flow) for flow in cut), "those without a way to be down", deadline_s=WAIT_S
        )
        assert [title(flow) for flow in flows if flow not in cut and not works(site, flow)] == []
