import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfalb.balancer.config.document import BrokenYaml, Position, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# only a comment", None),
        ("a", "a"),
        ("a: 1", {"a": 1}),
        ("a: [1, -2, +3, 0]", {"a": [1, -2, 3, 0]}),
        ("[1.5, ~, null, '', true, False]", [1.5, None, None, "", True, False]),
        (
            "[yes, no, on, 012, 0x1F, 1e3, 1_000, 2024-01-01, .inf, 1:30]",
            "[yes, no, on, 012, 0x1F, 1e3, 1_000, 2024-01-01, .inf, 1:30]",
        ),
        ("'5': \"5\"", {"5": "5"}),
        ("a: !!str 5", {"a": "5"}),
        ("9999999999999999999999999", "9999999999999999999999999"),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: &x {k: 1, l: 2}\nb: {<<: *x, l: 3}", {"a": {"k": 1, "l": 2}, "b": {"l": 3, "k": 1}}),
        ("b: {<<: [{k: 1}, {k: 2, l: 3}]}", {"b": {"k": 1, "l": 3}}),
        ("a: &x 1\nb: &x 2\nc: *x", {"a": 1, "b": 2, "c": 2}),
        ("%YAML 1.1\n---\na: yes", {"a": "yes"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
    ],
)
def test_yaml_is_read_by_the_core_schema(text: str, value: object) -> None:
    if isinstance(value, str) and value.startswith("["):
        value = value[1:-1].split(", ")  # each item is text as it stands
    assert read(text).data == value


def test_every_key_and_value_has_its_position() -> None:
    document = read("a: 1\nb:\n  - x\n  - c: y\n")
    assert document.keys == {
        ("a",): Position(1, 1),
        ("b",): Position(2, 1),
        ("b", 1, "c"): Position(4, 5),
    }
    assert document.values == {
        (): Position(1, 1),
        ("a",): Position(1, 4),
        ("b",): Position(3, 3),
        ("b", 0): Position(3, 5),
        ("b", 1): Position(4, 5),
        ("b", 1, "c"): Position(4, 8),
    }


def test_what_was_not_written_stands_at_the_table_around_it() -> None:
    document = read("a:\n  b: {c: 1}\n")
    assert document.at_value(("a", "b", "x", 0)) == Position(2, 3)
    assert document.at_key(("x",)) == Position(1, 1)


def test_a_key_written_twice_is_found_and_the_first_one_counts() -> None:
    document = read("a: 1\nb: 2\na: 3\n")
    assert document.data == {"a": 1, "b": 2}
    assert document.findings == [(Position(3, 1), "'a' is already set on line 1; keep one")]


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: b: c", 1, 5, "not YAML: mapping values are not allowed here"),
        (
            "a:\n\t- b",
            2,
            1,
            "not YAML: while scanning for the next token: found character '\\t' that cannot start any token",
        ),
        ("a: 'x\n", 2, 1, "not YAML: while scanning a quoted scalar: found unexpected end of stream"),
        ("a: [1, 2\nb: 3", 2, 2, "not YAML: while parsing a flow sequence: expected ',' or ']', but got ':'"),
        ("a: \x00", 1, 4, "this character is not accepted in YAML"),
        ('a: "\\U00110000"', 1, 1, "what follows is not YAML"),
        ('a: "\\ud800"', 1, 4, "half of a surrogate pair is not text"),
        ("a: *x", 1, 4, "this alias (*) names no anchor (&) above; quote text that begins with *"),
        ("a: &x [*x]", 1, 8, "this alias (*) names no anchor (&) above; quote text that begins with *"),
        (
            "a: !!python/name:os.system x",
            1,
            4,
            "the tag 'tag:yaml.org,2002:python/name:os.system' is not accepted here; write the plain value",
        ),
        ("a: !secret x", 1, 4, "the tag '!secret' is not accepted here; write the plain value"),
        ("? [a]\n: b", 1, 3, "a key must be plain text"),
        ("a: 1\n--- \nb: 2", 2, 1, "a second YAML document begins here; write one only"),
        ("a: {<<: 5}", 1, 9, "'<<' merges a table; write <<: *anchor-of-a-table"),
        ("[" * 40, 1, 34, "nested more than 32 levels deep"),
    ],
)
def test_what_is_not_accepted_is_told_with_its_place(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(BrokenYaml) as caught:
        read(text)
    assert (caught.value.message, caught.value.position) == (message, Position(line, column))


def test_an_anchor_bomb_is_stopped_early() -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 100)}]" for n in range(1, 9)]
    with pytest.raises(BrokenYaml, match="anchors repeat this into more than 200000 values"):
        read("\n".join(["l0: &l0 [x]", *levels]))


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text("abc :#-'\"{}[]&*!|>%@`\n", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(_PLAIN)
def test_json_is_read_as_the_yaml_it_is(value: object) -> None:
    assert read(json.dumps(value)).data == value
