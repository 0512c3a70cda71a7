"""Promise: Chromium uses a portal behind the balancer as if it were one server; sessions stay where they began."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright
from programs.balancer import Balancer, write_secret
from programs.browser_site import EVENTS, PARTS, Portal, export
from programs.certificates import CertificateFiles
from programs.http_pool import Front, http_pool, new_front
from programs.ports import LOOPBACK
from programs.process import find_program, wait_until

WAIT_MS: Final = 20_000.0

# The page's side of /events: tells the server that an event has come, and only then is the next one sent
LISTEN: Final = """async () => {
    const seen = [], source = new EventSource("/events");
    await new Promise((done, failed) => {
        source.onerror = () => failed(new Error("broken off after " + seen));
        source.onmessage = async (event) => {
            seen.push(event.data);
            if (event.data == "end") { source.close(); done(); }
            else await fetch("/events/" + event.data, {method: "POST"});
        };
    });
    return seen;
}"""
SPEAK: Final = """async () => {
    const socket = new WebSocket("wss://" + location.host + "/socket");
    await new Promise((done) => { socket.onopen = done; });
    const said = await new Promise((done) => { socket.onmessage = (event) => done(event.data); socket.send("hello"); });
    const code = await new Promise((done) => { socket.onclose = (event) => done(event.code); socket.close(1000); });
    return [said, code];
}"""


def spki(certificate: CertificateFiles) -> str:
    """What Chromium is told to believe: this key, whoever signed for it."""
    key = x509.load_pem_x509_certificate(certificate.cert.read_bytes()).public_key()
    form = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(form).digest()).decode()


@pytest.fixture(scope="module")
def browser(certificate: CertificateFiles) -> Iterator[Browser]:
    options = ["--no-sandbox", f"--ignore-certificate-errors-spki-list={spki(certificate)}"]
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=find_program("chromium"), args=options)
        yield chromium
        chromium.close()


@dataclass
class Published:
    """Two portals behind a balancer, and whoever visits them."""

    balancer: Balancer
    front: Front
    portals: dict[str, Portal]
    browser: Browser
    visitors: list[BrowserContext] = field(default_factory=list)

    def visitor(self) -> Page:
        """One more person at a browser of their own."""
        context = self.browser.new_context(base_url=f"https://{LOOPBACK}:{self.front.port}")
        context.set_default_timeout(WAIT_MS)
        self.visitors.append(context)
        return context.new_page()

    def signed_in(self, user: str) -> Page:
        page = self.visitor()
        page.goto("/")
        sign_in(page, user)
        return page

    def signed_in_at(self, name: str) -> Page:
        """Round robin leads there sooner or later."""
        while True:
            page = self.signed_in("somebody")
            if server_of(page) == name:
                return page


def sign_in(page: Page, user: str) -> None:
    page.fill("input[name=user]", user)
    page.click("button")
    page.wait_for_url("**/home")


def note_server(servers: list[str]) -> Callable[[Response], None]:
    """An ear for answers that writes down which server each part of a page came from."""

    def note(response: Response) -> None:
        if "/part/" in response.url:
            servers.append(response.headers["x-server"])

    return note


def server_of(page: Page) -> str:
    return page.inner_text("#server")


@pytest.fixture
def published(browser: Browser, tmp_path: Path, certificate: CertificateFiles) -> Iterator[Published]:
    front, key = new_front(certificate), base64.b64encode(os.urandom(32)).decode()
    with ExitStack() as stack:
        portals = {name: stack.enter_context(Portal(name, tmp_path / name)) for name in ("b1", "b2")}
        addresses = [portal.address for portal in portals.values()]
        nobody = f"{LOOPBACK}:1"
        routes = [{"pool": "portal"}, {"path": "/refusing", "pool": "refusing"}, {"path": "/down", "pool": "down"}]
        config = {
            "listeners": [front.listener("portal", routes)],
            "pools": {
                "portal": http_pool(*addresses, affinity={"type": "cookie"}),
                "refusing": http_pool(nobody),
                "down": http_pool(nobody, health_check={"type": "tcp", "interval": "500ms"}),
            },
            "pins": {"cookie_keys_file": write_secret(tmp_path, "cookie-keys", key)},
        }
        balancer = stack.enter_context(Balancer(config, tmp_path / "mfalb", secrets=[key]))
        site = Published(balancer, front, portals, browser)
        yield site
        for visitor in site.visitors:
            visitor.close()


def test_pages_and_all_their_parts_come_from_the_server_that_the_session_began_on(published: Published) -> None:
    homes = []
    for number in range(4):
        page = published.visitor()
        servers: list[str] = []
        page.on("response", note_server(servers))
        page.goto("/")
        sign_in(page, f"user {number}")
        page.wait_for_load_state("load")
        widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
        assert widths == [10 * part for part in range(1, PARTS + 1)]
        home = server_of(page)
        assert servers == [home] * PARTS
        assert page.inner_text("h1") == f"user {number}"
        homes.append(home)
    assert sorted(set(homes)) == ["b1", "b2"], "people are spread over both, so that staying means something"


def test_back_forward_and_reload_stay_in_the_session(published: Published) -> None:
    page = published.signed_in("anna")
    home = server_of(page)
    page.click("#more")
    page.wait_for_url("**/more")
    for step in (page.reload, page.go_back, page.go_forward, page.go_back, page.reload):
        step()
        assert server_of(page) == home
    assert page.inner_text("h1") == "anna"


def test_files_are_sent_and_received_whole(published: Published, tmp_path: Path) -> None:
    page = published.signed_in("anna")
    file = tmp_path / "large.bin"
    file.write_bytes(os.urandom(5_000_000))
    with page.expect_download() as begun:
        page.click("#export")
    assert Path(begun.value.path()).read_bytes() == export()
    page.set_input_files("input[type=file]", file)
    page.click("text=Send")
    page.wait_for_url("**/upload")
    assert page.inner_text("body") == f"large.bin {hashlib.sha256(file.read_bytes()).hexdigest()}"


def test_events_come_one_by_one_and_are_not_kept_back(published: Published) -> None:
    page = published.signed_in("anna")
    assert page.evaluate(LISTEN) == [*map(str, range(EVENTS)), "end"]


def test_a_websocket_of_the_page_reaches_the_server_of_its_session(published: Published) -> None:
    for _ in range(2):
        page = published.signed_in("anna")
        assert page.evaluate(SPEAK) == [f"anna@{server_of(page)}: hello", 1000]


def test_whose_server_is_killed_signs_in_at_the_other_one_and_others_notice_nothing(published: Published) -> None:
    lost, kept = published.signed_in_at("b1"), published.signed_in_at("b2")
    published.portals["b1"].kill()
    assert kept.goto("/home") is not None
    assert (server_of(kept), kept.inner_text("h1")) == ("b2", "somebody")
    lost.goto("/home")
    assert lost.title() == "Sign in", "another server does not know the session, and no error was shown"
    sign_in(lost, "again")
    assert (server_of(lost), lost.inner_text("h1")) == ("b2", "again")
    assert lost.evaluate(SPEAK) == ["again@b2: hello", 1000]


def test_what_the_balancer_itself_says_is_plain_text_that_a_person_can_read(published: Published) -> None:
    page = published.visitor()
    told = {
        "/refusing": (502, "The servers of this service refuse connections. Please try again."),
        "/down": (503, "No server is available for this service. Please try again."),
    }
    wait_until(lambda: published.balancer.backend("down")["health"] == "down", "its check")
    for path, (status, text) in told.items():
        answer = page.goto(path)
        assert answer is not None
        assert (answer.status, page.inner_text("body").strip()) == (status, text)
