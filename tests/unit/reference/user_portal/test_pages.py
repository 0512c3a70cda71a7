from __future__ import annotations

import re

import pytest

from mfalb.reference.user_portal.pages import Pages

TOKEN = "t" * 43
MARKUP = '<script>"&'


def all_pages(pages: Pages, text: str) -> dict[str, str]:
    return {
        "login": pages.login(TOKEN, notice=text, error=text),
        "otp": pages.otp(TOKEN, text, error=text),
        "account": pages.account(TOKEN, text, error=text),
    }


@pytest.fixture
def pages() -> Pages:
    return Pages("portal1", "/MultiFactorAuth")


@pytest.mark.parametrize("kind", ["login", "otp", "account"])
def test_every_text_on_a_page_is_escaped(kind: str) -> None:
    page = all_pages(Pages(MARKUP, "/MultiFactorAuth"), MARKUP)[kind]
    assert "<script" not in page
    assert page.count("&lt;script&gt;&#34;&amp;") >= 2


@pytest.mark.parametrize("kind", ["login", "otp", "account"])
def test_every_form_posts_to_the_portal_and_carries_the_token(pages: Pages, kind: str) -> None:
    page = all_pages(pages, "text")[kind]
    forms = re.findall(r"<form .*?</form>", page, re.DOTALL)
    assert forms
    for form in forms:
        assert re.match(r'<form method="post" action="/MultiFactorAuth/(login|otp|logout)">', form)
        assert f'name="csrf" value="{TOKEN}"' in form


@pytest.mark.parametrize("kind", ["login", "otp", "account"])
def test_every_field_that_people_fill_in_has_a_label_and_every_page_one_heading(pages: Pages, kind: str) -> None:
    page = all_pages(pages, "text")[kind]
    fields = re.findall(r'<input id="(\w+)"', page)
    assert re.findall(r'<label for="(\w+)">', page) == fields
    assert page.count("<h1>") == page.count("<main>") == 1
    assert '<html lang="en">' in page
    assert "<script" not in page


def test_only_the_account_page_says_who_served_it(pages: Pages) -> None:
    texts = all_pages(pages, "text")
    assert {kind for kind, page in texts.items() if "Served by portal1" in page} == {"account"}


def test_a_page_without_notice_or_error_has_no_empty_boxes(pages: Pages) -> None:
    assert "role=" not in pages.login(TOKEN)
    assert 'role="alert"' in pages.login(TOKEN, error="wrong")
    assert 'role="status"' in pages.login(TOKEN, notice="bye")
