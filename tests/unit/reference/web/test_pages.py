from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from mfalb.reference.web.pages import Pages, html


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    (tmp_path / "greeting.html").write_text(
        '{% extends "base.html" %}{% block title %}Hello{% endblock %}'
        "{% block content %}<p>{{ name }}</p>{% endblock %}"
    )
    return Pages(tmp_path, server="web1", root="/root", brand="Brand", product="Product")


def test_every_page_has_language_title_one_heading_and_its_server(pages: Pages) -> None:
    text = pages.text("greeting", name="alice")
    for part in ('<html lang="en">', "<title>Hello \u2013 Product</title>", "<h1>Hello</h1>", "Server: web1"):
        assert text.count(part) == 1
    assert 'href="/root/style.css"' in text


def test_what_others_typed_stays_text(pages: Pages) -> None:
    text = pages.text("greeting", name="<script>", error="<b>", notice="&")
    assert "<p>&lt;script&gt;</p>" in text
    assert '<p class="error" role="alert" id="error">&lt;b&gt;</p>' in text
    assert '<p class="notice" role="status">&amp;</p>' in text


def test_without_notice_and_error_there_is_room_for_neither(pages: Pages) -> None:
    assert "role=" not in pages.text("greeting", name="alice")


def test_a_value_that_was_forgotten_is_an_error_and_no_gap(pages: Pages) -> None:
    with pytest.raises(UndefinedError):
        pages.text("greeting")


def test_an_answer_is_kept_by_no_cache_and_posts_where_it_is_told(pages: Pages) -> None:
    answer = pages.answer("greeting", HTTPStatus.FORBIDDEN, name="alice")
    assert (answer.status, answer.content_type, answer.charset) == (403, "text/html", "utf-8")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "form-action 'self';" in answer.headers["Content-Security-Policy"]
    policy = html("", HTTPStatus.OK, "https://app.example").headers["Content-Security-Policy"]
    assert "form-action https://app.example;" in policy
