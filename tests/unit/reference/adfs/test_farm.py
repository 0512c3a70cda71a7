from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfalb.reference.adfs.farm import SEALED_LIMIT, Context, FarmKey, Stage, browser_digest

KEY = FarmKey(bytes(range(32)))
NONCE = bytes(12)
CONTEXT = Context("app", "https://app.example/token", "n", "s", browser_digest("cookie"), "alice", "request-1")


@pytest.mark.parametrize("stage", Stage)
def test_another_node_of_the_farm_opens_what_one_has_sealed(stage: Stage) -> None:
    sealed = KEY.seal(stage, CONTEXT, 1000.0, NONCE)
    assert FarmKey(bytes(range(32))).open_untrusted(stage, sealed, 1000.0 + stage.life_s) == CONTEXT


@pytest.mark.parametrize("stage", Stage)
def test_what_is_too_old_is_not_opened(stage: Stage) -> None:
    sealed = KEY.seal(stage, CONTEXT, 1000.0, NONCE)
    assert KEY.open_untrusted(stage, sealed, 1001.0 + stage.life_s) is None


def test_what_is_for_one_stage_is_worth_nothing_at_the_other() -> None:
    sealed = KEY.seal(Stage.PASSWORD, CONTEXT, 1000.0, NONCE)
    assert KEY.open_untrusted(Stage.CODE, sealed, 1000.0) is None


def test_another_farm_cannot_open_it() -> None:
    assert FarmKey(bytes(32)).open_untrusted(Stage.CODE, KEY.seal(Stage.CODE, CONTEXT, 0.0, NONCE), 0.0) is None


def test_a_change_of_any_character_is_seen() -> None:
    sealed = KEY.seal(Stage.CODE, CONTEXT, 1000.0, NONCE)
    for place in range(len(sealed) - 4):  # the last characters may hold bits that mean nothing
        changed = sealed[:place] + ("A" if sealed[place] != "A" else "B") + sealed[place + 1 :]
        assert KEY.open_untrusted(Stage.CODE, changed, 1000.0) is None


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    assert KEY.open_untrusted(Stage.CODE, text, 0.0) is None


def test_a_text_past_the_limit_is_not_looked_at() -> None:
    sealed = KEY.seal(Stage.CODE, Context("a", "u", "n", "s" * SEALED_LIMIT, "b"), 0.0, NONCE)
    assert KEY.open_untrusted(Stage.CODE, sealed, 0.0) is None


def test_it_shows_nothing_of_what_it_holds() -> None:
    assert "alice" not in KEY.seal(Stage.CODE, CONTEXT, 0.0, NONCE)
    assert "request-1" not in repr(CONTEXT)


def test_a_context_is_of_the_browser_whose_cookie_it_was_made_for() -> None:
    assert CONTEXT.is_of("cookie")
    assert not CONTEXT.is_of("another")
    assert not Context("app", "u", "n", "s", browser_digest("")).is_of("")


def test_a_key_file_holds_32_bytes_in_base64(tmp_path: Path) -> None:
    path = tmp_path / "farm.key"
    path.write_bytes(b64encode(bytes(range(32))) + b"\n")
    assert FarmKey.of_file(path).open_untrusted(Stage.CODE, KEY.seal(Stage.CODE, CONTEXT, 0.0, NONCE), 0.0) == CONTEXT
    for text in (b64encode(bytes(16)), b"not base64!"):
        path.write_bytes(text)
        with pytest.raises(ValueError, match=r"32 bytes|base64|characters"):
            FarmKey.of_file(path)
