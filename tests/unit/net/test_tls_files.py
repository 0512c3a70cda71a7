import logging
import ssl
from pathlib import Path

import pytest
from unit.net.handshakes import NOON, SECRET, shake_hands
from unit.net.throw_away_certificates import write_certificate

from mfalb.net.live_tls import LiveServer
from mfalb.net.openssl import native_tls
from mfalb.net.tls import ClientFiles, Pair, ServerFiles, client_context
from mfalb.net.tls_files import Changes, TlsFiles, Watched, trouble

OLD, NEW, NEWER = (b"old",), (b"new",), (b"newer",)


@pytest.mark.parametrize(
    ("looks", "due"),
    [
        ([OLD, OLD], [False, False]),
        ([NEW, NEW], [False, True]),  # seen twice: nobody is still writing
        ([NEW, NEWER, NEWER], [False, False, True]),
        ([NEW, OLD, OLD], [False, False, False]),
        ([NEW, OLD, NEW, NEW], [False, False, False, True]),
    ],
)
def test_a_change_is_due_when_it_was_seen_twice_in_a_row(looks: list[tuple[bytes]], due: list[bool]) -> None:
    changes = Changes(OLD)
    assert [changes.is_due(seen) for seen in looks] == due


def test_what_was_tried_is_not_tried_again() -> None:
    changes = Changes(OLD)
    assert [changes.is_due(NEW), changes.is_due(NEW)] == [False, True]
    changes.tried(NEW)
    assert [changes.is_due(NEW), changes.is_due(OLD), changes.is_due(OLD)] == [False, False, True]


# ---------------------------------------------------------------------------------------------- with files


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return write_certificate(tmp_path, "web", "mfa.contoso.com")


@pytest.fixture
def tls_files() -> TlsFiles:
    return TlsFiles(SECRET, 5.0, lambda: NOON)


def look(tls_files: TlsFiles) -> list[object]:
    """One round, as the task does it."""
    found = [(one, one.look(NOON)) for one in tls_files.watched]
    for one, what in found:
        if what is not None:
            tls_files.apply(one, what)
    return [what for _, what in found]


def only(tls_files: TlsFiles) -> Watched:
    (watched,) = tls_files.watched
    return watched


def served(context: ssl.SSLContext) -> bytes | None:
    return shake_hands(context, client_context(ClientFiles(is_verified=False)), None).getpeercert(binary_form=True)


def test_a_new_pair_is_served_after_two_looks(tls_files: TlsFiles, tmp_path: Path, pair: Pair) -> None:
    context = tls_files.server("web", ServerFiles((pair,)))
    before = served(context)
    assert look(tls_files) == [None]
    write_certificate(tmp_path, "web", "mfa.contoso.com")
    assert look(tls_files) == [None]
    assert served(context) == before
    look(tls_files)
    assert served(context) != before
    assert only(tls_files).reloads == {"ok": 1, "failed": 0}


def test_a_pair_half_written_is_left_alone_and_one_at_odds_told_of_once(
    tls_files: TlsFiles, tmp_path: Path, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mfalb.tls")
    context = tls_files.server("web", ServerFiles((pair,)))
    before, key = served(context), pair[1].read_bytes()
    write_certificate(tmp_path, "web", "mfa.contoso.com")
    new_key = pair[1].read_bytes()
    pair[1].write_bytes(key)
    assert look(tls_files) == [None]
    for _ in range(3):
        look(tls_files)
        assert served(context) == before
        assert only(tls_files).is_failing
    pair[1].write_bytes(new_key)
    look(tls_files)
    look(tls_files)
    assert served(context) != before
    assert not only(tls_files).is_failing
    assert only(tls_files).reloads == {"ok": 1, "failed": 1}
    told = [(record.levelname, vars(record)["listener"]) for record in caplog.records]
    assert told == [("WARNING", "web"), ("INFO", "web")]
    assert vars(caplog.records[0])["reason"] == "key values mismatch"
    assert "PRIVATE" not in caplog.text


@pytest.mark.parametrize(
    "content", [None, b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_that_is_gone_or_broken_changes_nothing(tls_files: TlsFiles, pair: Pair, content: bytes | None) -> None:
    context = tls_files.server("web", ServerFiles((pair,)))
    before, whole = served(context), pair[0].read_bytes()
    pair[0].unlink()
    if content is not None:
        pair[0].write_bytes(content)
    found = [look(tls_files) for _ in range(4)]
    assert [isinstance(what[0], str) for what in found] == [False, True, False, False]
    assert served(context) == before
    pair[0].write_bytes(whole)
    assert [look(tls_files), look(tls_files)][1] != [None]
    assert not only(tls_files).is_failing


def test_files_that_change_while_a_context_is_made_are_read_again(
    tls_files: TlsFiles, tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = LiveServer.prepare

    def change_afterwards(live: LiveServer, now: float) -> object:
        swap = prepare(live, now)
        write_certificate(tmp_path, "web", "mfa.contoso.com")
        return swap

    monkeypatch.setattr(LiveServer, "prepare", change_afterwards)
    context = tls_files.server("web", ServerFiles((pair,)))
    monkeypatch.undo()
    before = served(context)
    look(tls_files)
    look(tls_files)
    assert served(context) != before


def test_files_that_change_while_they_are_read_are_left_for_the_next_look(
    tls_files: TlsFiles, tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_files.server("web", ServerFiles((pair,)))
    watched = only(tls_files)
    write_certificate(tmp_path, "web", "mfa.contoso.com")
    assert watched.look(NOON) is None
    prepare = watched.live.prepare

    def change_meanwhile(now: float) -> object:
        write_certificate(tmp_path, "web", "mfa.contoso.com")
        return prepare(now)

    monkeypatch.setattr(watched.live, "prepare", change_meanwhile)
    assert watched.look(NOON) is None
    monkeypatch.undo()
    assert watched.look(NOON) is None
    assert watched.look(NOON) is not None


def test_a_mounted_secret_is_followed_when_its_folder_link_turns(tls_files: TlsFiles, tmp_path: Path) -> None:
    """As kubelet does it: tls.crt -> ..data/tls.crt, ..data -> ..2026_01, and ..data is replaced by a rename."""
    mount = tmp_path / "mount"
    for folder in ("..1", "..2"):
        (mount / folder).mkdir(parents=True)
        chain, key = write_certificate(mount / folder, "web", "mfa.contoso.com")
        chain.rename(mount / folder / "tls.crt")
        key.rename(mount / folder / "tls.key")
    (mount / "..data").symlink_to("..1")
    pair = (mount / "tls.crt", mount / "tls.key")
    for file in pair:
        file.symlink_to(f"..data/{file.name}")
    context = tls_files.server("web", ServerFiles((pair,)))
    before = served(context)
    (mount / "..data_tmp").symlink_to("..2")
    (mount / "..data_tmp").rename(mount / "..data")
    look(tls_files)
    look(tls_files)
    assert served(context) != before


def test_a_pool_has_one_context_whoever_asks(tls_files: TlsFiles, pair: Pair) -> None:
    files = ClientFiles(ca=pair[0])
    assert tls_files.client("mfa", files) is tls_files.client("mfa", files)
    assert tls_files.client("other", files) is not tls_files.client("mfa", files)
    tls_files.server("mfa", ServerFiles((pair,)))
    assert [(one.role, one.live.name) for one in tls_files.watched] == [
        ("pool", "mfa"),
        ("pool", "other"),
        ("listener", "mfa"),
    ]


@pytest.mark.parametrize("native", ["built in another way", native_tls()], ids=["out of reach", "reached"])
async def test_it_is_told_where_tickets_are_good_for_one_process_only(
    tls_files: TlsFiles, pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, native: object
) -> None:
    tls_files.server("web", ServerFiles((pair,)))
    monkeypatch.setattr("mfalb.net.tls_files.native_tls", lambda: native)
    tls_files.start()
    await tls_files.close()
    assert [vars(record)["reason"] for record in caplog.records] == ([native] if isinstance(native, str) else [])


def test_reasons_are_told_in_words() -> None:
    assert trouble(FileNotFoundError(2, "No such file or directory", "/x/web.crt")) == (
        "/x/web.crt: No such file or directory"
    )
    assert trouble(OSError(5, "Input/output error")) == "Input/output error"
    assert trouble(OSError()) == "unreadable"
    assert trouble(ValueError("first line\nsecond")) == "first line"
