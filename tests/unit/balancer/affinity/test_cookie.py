import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfalb.balancer.affinity.cookie import NONCE_BYTES, CookieFinding, CookieLife, CookiePin, CookieSealer

KEYS = [bytes([number]) * 32 for number in range(3)]
NONCE = bytes(range(NONCE_BYTES))
NOW = 1_800_000_000
PIN = CookiePin("mfa1", NOW - 100, NOW)
SEALER = CookieSealer(KEYS[:1])
VALUE = SEALER.seal("portal", PIN, NONCE).encode()

backend_names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
moments = st.integers(0, 2**32 - 1)


@given(backend_names, moments, moments, st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES))
@settings(max_examples=150)
def test_a_cookie_says_to_its_pool_what_was_sealed_and_its_length_tells_nothing(
    backend: str, issued_at: int, used_at: int, nonce: bytes
) -> None:
    pin = CookiePin(backend, issued_at, used_at)
    value = SEALER.seal("portal", pin, nonce)
    assert SEALER.open_untrusted("portal", value.encode()) == pin
    assert len(value) == len(VALUE)
    assert value.replace("-", "").replace("_", "").isalnum()  # nothing that a cookie would have to quote


def test_every_changed_letter_spoils_a_cookie() -> None:
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=. \x00\xff"
    for place in range(len(VALUE)):
        for letter in (
            letters if place in (0, len(VALUE) // 2, len(VALUE) - 1) else letters[place % 64 : place % 64 + 4]
        ):
            changed = VALUE[:place] + bytes((letter,)) + VALUE[place + 1 :]
            assert changed == VALUE or SEALER.open_untrusted("portal", changed) is None


def test_a_cookie_cut_anywhere_or_with_a_tail_is_not_ours() -> None:
    for length in range(len(VALUE)):
        assert SEALER.open_untrusted("portal", VALUE[:length]) is None
    for tail in (b"=", b"==", b"A", b"AAAA", b"A" * 2000):
        assert SEALER.open_untrusted("portal", VALUE + tail) is None


def test_a_cookie_in_another_spelling_of_base64_is_not_ours() -> None:
    for number in range(200):
        value = SEALER.seal("portal", PIN, bytes([number]) * NONCE_BYTES).encode()
        other = value.replace(b"-", b"+").replace(b"_", b"/")
        assert other == value or SEALER.open_untrusted("portal", other) is None


@given(st.binary(max_size=200))
@settings(max_examples=150)
def test_any_value_is_a_pin_or_none(value: bytes) -> None:
    assert SEALER.open_untrusted("portal", value) is None


def test_a_cookie_of_another_pool_says_nothing() -> None:
    assert SEALER.open_untrusted("sdk", VALUE) is None
    assert SEALER.open_untrusted("", VALUE) is None


def test_keys_are_rotated_by_putting_the_new_one_on_top() -> None:
    old, both, new = CookieSealer(KEYS[:1]), CookieSealer([KEYS[1], KEYS[0]]), CookieSealer([KEYS[1]])
    from_old, from_both = (sealer.seal("portal", PIN, NONCE).encode() for sealer in (old, both))
    assert both.open_untrusted("portal", from_old) == PIN
    assert new.open_untrusted("portal", from_old) is None
    assert new.open_untrusted("portal", from_both) == PIN  # the first key of the ring seals
    assert old.open_untrusted("portal", from_both) is None


def test_a_ring_needs_a_key() -> None:
    with pytest.raises(ValueError, match="at least one key"):
        CookieSealer([])


def test_nothing_of_the_backend_can_be_read_out_of_a_cookie() -> None:
    one, other = (SEALER.seal("portal", CookiePin(name, NOW, NOW), NONCE) for name in ("mfa1", "mfa2"))
    assert "mfa1" not in one
    assert one != other
    assert SEALER.seal("portal", PIN, bytes(NONCE_BYTES)) != VALUE.decode()


LIFE = CookieLife(idle_s=900.0, max_s=28_800.0)
DAY_S = 86_400


@pytest.mark.parametrize(
    ("age_s", "idle_s", "finding"),
    [
        (0, 0, CookieFinding.VALID),
        (900, 900, CookieFinding.VALID),
        (901, 901, CookieFinding.EXPIRED),
        (28_800, 0, CookieFinding.VALID),
        (28_801, 0, CookieFinding.OLD),
        (28_801, 901, CookieFinding.EXPIRED),
        (-60, -60, CookieFinding.VALID),  # another node's clock is a little ahead
        (-DAY_S, -DAY_S, CookieFinding.VALID),
        (-DAY_S - 1, -DAY_S - 1, CookieFinding.INVALID),
        (28_801, -DAY_S - 1, CookieFinding.INVALID),
    ],
)
def test_an_honest_cookie_counts_for_its_time(age_s: int, idle_s: int, finding: CookieFinding) -> None:
    assert LIFE.judge(CookiePin("mfa1", NOW - age_s, NOW - idle_s), float(NOW)) is finding


def test_each_finding_has_a_letter_of_its_own() -> None:
    assert sorted(finding.value for finding in CookieFinding) == ["D", "E", "I", "N", "O", "V"]
