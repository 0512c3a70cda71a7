import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.balancer.config.config_folder import LISTENERS, POOLS, Folder

from mfalb.balancer.config.loader import check, load
from mfalb.balancer.config.models import Config
from mfalb.balancer.config.outline import accepted_keys
from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import Address
from mfalb.errors import ConfigError, Problem


def test_a_file_becomes_frozen_values(folder: Folder) -> None:
    config = load(folder.write("a.yaml", LISTENERS + POOLS))
    assert config.listeners[0].bind == (Address("127.0.0.1", 8080),)
    assert config.pools["web"].backends[0].name == "a"
    assert config.admin.bind == Address("127.0.0.1", 9300)


def test_load_raises_every_problem_at_once(folder: Folder) -> None:
    file = folder.write("a.yaml", f"{LISTENERS}{POOLS}log: {{level: loud, format: xml}}\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.problems == [
        Problem(str(file), 7, 14, "level: 'loud' is not one of debug, info, warning, error"),
        Problem(str(file), 7, 28, "format: 'xml' is not one of text, json"),
    ]


def test_load_passes_over_warnings(folder: Folder) -> None:
    file = folder.write("a.yaml", f"{LISTENERS}{POOLS}admin: {{bind: '0.0.0.0:9300'}}\n")
    assert load(file).admin.bind.port == 9300
    assert [problem.is_error for problem in check(file)[1]] == [False]


@pytest.mark.parametrize(
    ("content", "position", "message"),
    [
        (b"", "1:1", "is empty; must be a table: one 'key: value' a line"),
        (b"- a\n", "1:1", "must be a table: one 'key: value' a line"),
        (b"a: 1\nb: \xff\n", "2:4", "this is not UTF-8 text; save the file as UTF-8"),
        (b"a: [1\n", "2:1", "not YAML: while parsing a flow sequence: expected ',' or ']', but got '<stream end>'"),
        (b"#" * (1024 * 1024 + 1), "0:0", "is larger than 1024 KiB, which no configuration is"),
    ],
)
def test_a_file_that_is_no_configuration_at_all_is_told_so(
    folder: Folder, content: bytes, position: str, message: str
) -> None:
    file = folder.write("a.yaml", content)
    config, problems = check(file)
    assert config is None
    assert [str(problem) for problem in problems] == [f"{file}:{position}: error: {message}"]


@pytest.mark.parametrize(("name", "why"), [("nope.yaml", "no such file or directory"), (".", "is a directory")])
def test_a_file_that_cannot_be_read_is_told_so(folder: Folder, name: str, why: str) -> None:
    config, problems = check(folder.path / name)
    assert config is None
    assert [str(problem) for problem in problems] == [f"{folder.path / name}:0:0: error: cannot read it: {why}"]


def test_a_byte_order_mark_is_passed_over(folder: Folder) -> None:
    load(folder.write("a.yaml", "\ufeff" + LISTENERS + POOLS))


def test_anchors_spare_repetition(folder: Folder) -> None:
    text = f"""\
{LISTENERS}pools:
  web: &base
    backends: [{{name: a, address: "10.0.0.1:80"}}]
    health_check: {{type: http}}
  copy: {{<<: *base, response_timeout: 5s}}
"""
    config, _ = folder.read(text)
    assert config is not None
    assert config.pools["copy"].backends == config.pools["web"].backends
    assert config.pools["copy"].response_timeout_s == 5.0


# ------------------------------------------------------------------------ whatever is written: Config or ConfigError

_KEYS = sorted({key for table in Table.__subclasses__() for key in accepted_keys(table)})
_TEXTS = [
    "127.0.0.1:80",
    "[::1]:80",
    "10.0.0.0/8",
    "5s",
    "64KiB",
    ".",
    "/",
    "PATH",
    "<<",
    "~",
    "true",
    "0",
    "-1",
    "1.5",
]
_TAGS = ["http", "https", "radius", "tcp", "cookie", "transaction", "radius_state", "none", "azure_mfa_sdk", "web"]
_WORDS = st.sampled_from([*_KEYS, *_TEXTS, *_TAGS])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=25,
)
_ROOTS = st.fixed_dictionaries(
    {},
    optional={
        "listeners": st.lists(
            st.dictionaries(_WORDS, _VALUES, max_size=5).flatmap(
                lambda table: st.sampled_from(["http", "https", "radius"]).map(
                    lambda protocol: {**table, "protocol": protocol}
                )
            ),
            max_size=2,
        )
        | _VALUES,
        "pools": st.dictionaries(_WORDS, _VALUES, max_size=3) | _VALUES,
        "pins": _VALUES,
        "admin": _VALUES,
        "log": _VALUES,
    },
)


def _as_flow(value: object) -> str:
    """YAML in flow style; broken on purpose wherever text needs quotes and has none."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_as_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_flow, value)) + "]"
    return "~" if value is None else str(value)


def _check_octets(octets: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.yaml"
        file.write_bytes(octets)
        try:
            config = load(file, {"PATH": "x"})
        except ConfigError as error:
            assert any(problem.is_error for problem in error.problems)  # noqa: PT017 - either outcome is right
            str(error).encode()
        else:
            assert isinstance(config, Config)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(_ROOTS.map(_as_flow))
def test_whatever_shape_a_file_has_it_is_loaded_or_refused(text: str) -> None:
    _check_octets(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=200)
@given(st.text(st.sampled_from(" \n\t:-?[]{}#&*!|>'\"%@`,\\abxuU0~<=.\x00\x85\u2028\ufeff\U0001f600"), max_size=40))
def test_whatever_characters_a_file_has_it_is_loaded_or_refused(text: str) -> None:
    _check_octets(text.encode())


@given(st.binary(max_size=60))
def test_whatever_octets_a_file_has_it_is_loaded_or_refused(octets: bytes) -> None:
    _check_octets(octets)


@settings(max_examples=200)
@given(st.data())
def test_a_good_file_with_one_piece_cut_out_is_loaded_or_refused(data: st.DataObject) -> None:
    text = LISTENERS + POOLS + "    affinity: {preset: azure_mfa_sdk}\n"
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, min(len(text), begin + 20)))
    _check_octets((text[:begin] + data.draw(st.text(max_size=3)) + text[end:]).encode("utf-8", "surrogatepass"))
