from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web
from unit.reference.cloud_service.asked import Asked

from mfalb.reference.cloud_service import handset_pages
from mfalb.reference.cloud_service.handset_pages import HandsetPages
from mfalb.reference.cloud_service.outbox import Outbox, Text
from mfalb.reference.cloud_service.phones import Kind, Phones, Ringing
from mfalb.reference.config.cloud import Answering


class Pages:
    def __init__(self) -> None:
        self.outbox, self.phones = Outbox(), Phones()
        self.pages = HandsetPages(self.outbox, self.phones, Answering.MANUAL)
        application = web.Application()
        self.pages.add_routes(application.router)
        self.asked = Asked(application)

    async def post(self, path: str, **form: str) -> web.Response:
        kind = "application/x-www-form-urlencoded"
        return await self.asked.ask("POST", path, urlencode(form).encode(), Content_Type=kind)

    def ring(self, user: str) -> Ringing:
        one = Ringing(user, Kind.CALL, 0.0)
        self.phones._waiting[one.key] = one
        return one


@pytest.fixture
async def pages() -> Pages:
    return Pages()


async def test_an_answer_leads_back_to_the_page_so_that_reloading_answers_nothing_twice(pages: Pages) -> None:
    one = pages.ring("alice b")
    response = await pages.post(f"/handset/alice%20b/answers/{one.key}", action="approve")
    assert (response.status, response.headers["Location"]) == (303, "../../alice%20b")
    assert one.answer.done()


@pytest.mark.parametrize("form", [{}, {"action": "explode"}, {"action": ""}])
async def test_what_is_no_answer_answers_nothing(pages: Pages, form: dict[str, str]) -> None:
    one = pages.ring("alice")
    assert (await pages.post(f"/handset/alice/answers/{one.key}", **form)).status == 400
    assert not one.answer.done()


async def test_a_ring_that_is_over_is_told(pages: Pages) -> None:
    response = await pages.post("/handset/alice/answers/gone", action="approve")
    assert response.status == 410
    assert "It has stopped ringing." in (response.text or "")


async def test_a_users_choice_of_who_answers_is_theirs_alone_and_the_oldest_gives_way(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handset_pages, "_CHOICE_LIMIT", 2)
    for user in ("alice", "bob", "carol"):
        response = await pages.post(f"/handset/{user}/answering", mode="auto")
        assert response.headers["Location"] == f"./../{user}"
    chosen = [pages.pages.answering_of(user) for user in ("alice", "BOB", "carol", "dave")]
    assert chosen == [Answering.MANUAL, Answering.AUTO, Answering.AUTO, Answering.MANUAL]
    assert (await pages.post("/handset/alice/answering", mode="never")).status == 400


async def test_pages_are_kept_by_nobody_and_run_no_foreign_script(pages: Pages) -> None:
    for path in ("/handset/alice", "/handset/alice.json", "/handset-files/handset.css", "/handset-files/handset.js"):
        response = await pages.asked.ask("GET", path)
        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert (await pages.asked.ask("GET", "/handset-files/handset.html")).status == 404


async def test_a_page_shows_its_users_texts_and_what_is_markup_in_them_as_text(pages: Pages) -> None:
    pages.outbox.send(Text("Alice", "+1", "<i>code</i>", "1", 0.0))
    pages.outbox.send(Text("bob", "+1", "for bob", "2", 0.0))
    page = (await pages.asked.ask("GET", "/handset/alice")).text or ""
    assert "&lt;i&gt;code" in page
    assert "for bob" not in page


async def test_without_a_script_a_page_reloads_itself_only_while_nothing_is_to_be_typed(pages: Pages) -> None:
    async def text() -> str:
        return (await pages.asked.ask("GET", "/handset/alice")).text or ""

    assert 'http-equiv="refresh"' in await text()
    pages.ring("alice")
    assert 'http-equiv="refresh"' not in await text()


async def test_the_state_changes_when_something_new_is_there(pages: Pages) -> None:
    states: list[Any] = [(await pages.asked.json("/handset/alice.json"))["state"]]
    pages.outbox.send(Text("alice", "+1", "code", "1", 0.0))
    states.append((await pages.asked.json("/handset/alice.json"))["state"])
    pages.ring("alice")
    states.append((await pages.asked.json("/handset/alice.json"))["state"])
    assert len(set(states)) == 3
