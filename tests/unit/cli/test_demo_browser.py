from __future__ import annotations

from mfalb.cli.demo_browser import _Forms

PAGE = """
<input name="outside"><option value="outside">
<form method="post" action="/a"><input type="hidden" name="csrf" value="x&amp;y"><input name="user"></form>
<form method="post" action="/b">
<select name="m"><option value="1"></option><option value="2" selected></option></select>
<select name="n"><option value="3"></option><option value="4"></option></select></form>
"""


def test_a_page_s_forms_are_read_as_browsers_read_them() -> None:
    reader = _Forms()
    reader.feed(PAGE)
    assert [(form.action, form.fields) for form in reader.found] == [
        ("/a", {"csrf": "x&y", "user": ""}),
        ("/b", {"m": "2", "n": "3"}),
    ]
