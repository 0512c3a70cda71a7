import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfalb.telemetry.log import AccessLog, LineForm, configure, escaped

HOSTILE = [
    "a\nb",
    "a\r\nlevel=info",
    "a b",
    'a"b',
    "a=b",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202e",
    "",
    "\\",
    "é",
]
NOW = 1_800_000_000.5
STAMP = "2027-01-15T08:00:00.500+00:00"
HEAD = f'{{"time": "{STAMP}", "level": "info", "event": "exchange",'
FORM = LineForm("exchange", ("client", "path", "status"))


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("mfa1", "mfa1"),
        ("/a/b.asmx", "/a/b.asmx"),
        ("10.0.0.1:443", "10.0.0.1:443"),
        (7, "7"),
        (None, "None"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('a"b', r'"a\"b"'),
        ("a\\b", r'"a\\b"'),
        ("a\nb", r'"a\nb"'),
        ("\x1b[31m\x7f", r'"\u001b[31m\u007f"'),
        ("é\u202e", r'"\u00e9\u202e"'),
    ],
)
def test_a_value_is_one_word_of_a_line(value: object, word: str) -> None:
    assert escaped(value) == word


@given(st.text(max_size=30))
@settings(max_examples=200)
def test_any_text_is_one_printable_word_that_can_be_read_back(text: str) -> None:
    word = escaped(text)
    assert word.isascii()
    assert word.isprintable()
    if word != text:
        assert json.loads(word) == text
    else:
        assert not set(' "=') & set(word)


class Failing:
    def __str__(self) -> str:
        return "of\nits own"


@pytest.fixture
def root() -> logging.Logger:
    return logging.getLogger()


def lines_of(captured: pytest.CaptureFixture[str]) -> list[str]:
    text = captured.readouterr().err
    assert text.endswith("\n")
    return text[:-1].split("\n")


@pytest.fixture(autouse=True)
def _restored(root: logging.Logger) -> Iterator[None]:
    handlers, level, access = root.handlers[:], root.level, logging.getLogger("aiohttp.access").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiohttp.access").setLevel(access)


def test_a_text_line_has_its_time_level_event_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", is_json=False)
    logging.getLogger("mfalb.test").warning("backend changed", extra={"backend": "mfa1", "why": "no answer"})
    (line,) = lines_of(capsys)
    time, _, rest = line.partition(" ")
    assert rest == 'warning backend changed backend=mfa1 why="no answer"'
    assert time.endswith("+00:00")


def test_a_json_line_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", is_json=True)
    logging.getLogger("mfalb.test").error("x", extra={"backend": 'm"1\n', "count": 3, "other": Failing()})
    (line,) = lines_of(capsys)
    fields = json.loads(line)
    assert fields.pop("time").endswith("+00:00")
    assert fields == {
        "level": "error", "logger": "mfalb.test", "event": "x", "backend": 'm"1\n', "count": 3, "other": "of\nits own",
    }  # fmt: skip


@pytest.mark.parametrize("is_json", [False, True])
@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_peer_sent_breaks_the_line(
    text: str, capsys: pytest.CaptureFixture[str], *, is_json: bool
) -> None:
    configure("info", is_json=is_json)
    log = logging.getLogger("mfalb.test")
    log.warning("peer said %s", text, extra={"said": text, "other": Failing()})
    log.error("failed", exc_info=ValueError(text))
    lines = lines_of(capsys)
    assert len(lines) == 2
    assert all(line.isascii() or "é" in line for line in lines)
    assert all(line.isprintable() for line in lines) or (is_json and text == "\x7f")
    if is_json:
        assert json.loads(lines[0])["said"] == text
        assert "ValueError" in json.loads(lines[1])["error"]


def test_lines_below_the_level_and_requests_to_the_admin_api_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", is_json=False)
    logging.getLogger("mfalb.test").info("not this")
    configure("info", is_json=False)
    logging.getLogger("aiohttp.access").info("nor this")
    logging.getLogger("mfalb.test").info("but this")
    (line,) = lines_of(capsys)
    assert line.endswith(" info but this")


@pytest.mark.parametrize(
    ("is_json", "lines"),
    [
        (
            False,
            [
                f"{STAMP} info exchange client=10.0.0.5 path=/a status=200",
                rf'{STAMP} info exchange client=10.0.0.6 path="/\n" status=404',
            ],
        ),
        (
            True,
            [
                HEAD + ' "client": "10.0.0.5", "path": "/a", "status": 200}',
                HEAD + r' "client": "10.0.0.6", "path": "/\n", "status": 404}',
            ],
        ),
    ],
)
def test_access_lines_are_written_by_one_flush_and_only_once(lines: list[str], *, is_json: bool) -> None:
    stream = io.StringIO()
    log = AccessLog(is_json=is_json, stream=stream)
    log.add(FORM, ("10.0.0.5", log.word("/a"), 200))
    log.add(FORM, ("10.0.0.6", log.word("/\n"), 404))
    assert stream.getvalue() == ""
    log.flush(NOW)
    log.flush(NOW)
    assert stream.getvalue().splitlines() == lines


@pytest.mark.parametrize("is_json", [False, True])
@given(paths=st.lists(st.text(max_size=10), min_size=1, max_size=5))
@settings(max_examples=100)
def test_each_access_line_is_one_line_whatever_clients_ask_for(paths: list[str], *, is_json: bool) -> None:
    stream = io.StringIO()
    log = AccessLog(is_json=is_json, stream=stream)
    for path in paths:
        log.add(FORM, ("10.0.0.5", log.word(path), 200))
    log.flush(NOW)
    lines = stream.getvalue()[:-1].split("\n")
    assert len(lines) == len(paths)
    if is_json:
        assert [json.loads(line)["path"] for line in lines] == paths
    else:
        assert all(line.isprintable() and line.isascii() for line in lines)


class WriteCounter(io.StringIO):
    writes = 0

    def write(self, text: str, /) -> int:
        self.writes += 1
        return super().write(text)


def test_a_flush_is_worth_while_before_it_takes_milliseconds() -> None:
    log = AccessLog(is_json=False, stream=io.StringIO())
    for _ in range(AccessLog.FLUSH_ROWS - 1):
        log.add(FORM, ("c", "/", 200))
    assert not log.is_worth_a_flush
    log.add(FORM, ("c", "/", 200))
    assert log.is_worth_a_flush
    log.flush(NOW)
    assert not log.is_worth_a_flush


def test_a_full_access_log_counts_what_it_leaves_out_and_takes_more_after_a_flush() -> None:
    stream = WriteCounter()
    log = AccessLog(is_json=False, stream=stream)
    for number in range(AccessLog.LIMIT + 7):
        log.add(FORM, ("c", "/", number))
    assert log.left_out == 7
    log.flush(NOW)
    log.add(FORM, ("c", "/", -1))
    log.flush(NOW)
    lines = stream.getvalue().splitlines()
    assert (len(lines), stream.writes, log.left_out) == (AccessLog.LIMIT + 1, 2, 7)
    assert lines[-1].endswith("status=-1")


def test_access_lines_go_to_standard_error_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    log = AccessLog(is_json=False)
    log.add(FORM, ("c", "/", 200))
    log.flush(NOW)
    assert lines_of(capsys) == [f"{STAMP} info exchange client=c path=/ status=200"]


def test_a_row_that_does_not_fit_its_form_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        FORM.json(("c", "/"))


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["vpn", "wifi", "a=b", "100%"]), st.sampled_from(["accept", "-"]), st.floats(0, 1e6))
    )
)
def test_lines_that_differ_in_their_last_number_read_as_any_others(rows: list[tuple[str, str, float]]) -> None:
    names = ("client", "answer", "ms")
    told = [told_by(LineForm("radius", names, varying=varying), rows) for varying in (1, 0)]
    assert told[0] == told[1]


def told_by(form: LineForm, rows: list[tuple[str, str, float]]) -> str:
    stream = io.StringIO()
    log = AccessLog(is_json=False, stream=stream)
    for row in rows:
        log.add(form, row)
    log.flush(NOW)
    return stream.getvalue()


def test_a_percent_sign_in_a_value_is_just_that() -> None:
    rows = [("50%s", "%d%", 1.0), ("%(x)s", "%", 2.25), ("50%s", "%d%", 3.0)]
    for varying in (1, 0):
        text = told_by(LineForm("radius", ("client", "answer", "ms"), varying=varying), rows)
        assert text.splitlines() == [
            f"{STAMP} info radius client=50%s answer=%d% ms=1.0",
            f"{STAMP} info radius client=%(x)s answer=% ms=2.2",
            f"{STAMP} info radius client=50%s answer=%d% ms=3.0",
        ]
