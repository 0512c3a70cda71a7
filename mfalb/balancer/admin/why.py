"""Which backend would get this, and why: the rules of the exchanges, retold without doing anything.

Nothing here changes anything: no turn passes, no pin is used or counted. What a verdict says never repeats a cookie's
value, a State or a request id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from mfalb.balancer.admin.api_models import CookieQuestion, RequestIdQuestion, StateQuestion, Verdict
from mfalb.balancer.admin.operations import Refused
from mfalb.balancer.affinity.cookie import CookieFinding, CookieLife, CookieSealer
from mfalb.balancer.affinity.radius_state import radius_state_key
from mfalb.balancer.affinity.store import Pin
from mfalb.balancer.affinity.transaction import transaction_key
from mfalb.balancer.affinity.transaction_id import transaction_id_key
from mfalb.balancer.config.balancing_models import Algorithm
from mfalb.balancer.config.models import CookieAffinity, RadiusStateAffinity, TransactionAffinity
from mfalb.balancer.config.radius_models import RefusalForm
from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity
from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.choice import NO_KEY
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.pools.pool import Pool


@dataclass(frozen=True, slots=True)
class Peek:
    """Where pins can be looked up without a trace, now on both clocks (seconds), and whose turn is next, by worker."""

    pin: Callable[[bytes, float], Pin | None]
    sealer: CookieSealer | None
    monotonic_s: float
    wall_s: float
    turns: Sequence[str | None] = ()


def why_cookie(pool: Pool, question: CookieQuestion, peek: Peek) -> Verdict:
    """Where a session's cookie leads. Raises Refused for a pool whose sessions are not pinned by cookie."""
    affinity = pool.config.affinity
    if not isinstance(affinity, CookieAffinity) or peek.sealer is None:
        raise _other_affinity(pool, "cookie")
    pin = peek.sealer.open_untrusted(pool.name, question.value.encode())
    if pin is None:
        begin = "This is no cookie that this balancer's keys sealed for this pool, so the session begins anew."
        return _balanced(pool, "invalid", begin, turns=peek.turns)
    used_s = max(round(peek.wall_s - pin.used_at), 0)
    match CookieLife(affinity.idle_timeout_s, affinity.max_life_s).judge(pin, peek.wall_s):
        case CookieFinding.EXPIRED:
            begin = f"The cookie names {pin.backend}, but was last used {used_s} s ago."
            return _balanced(pool, "expired", begin, turns=peek.turns)
        case CookieFinding.OLD:
            begin = f"The cookie names {pin.backend}, but its session has lasted for too long."
            return _balanced(pool, "old", begin, turns=peek.turns)
        case CookieFinding.INVALID:
            begin = "The cookie says it was used in the future: the clock of a node is wrong."
            return _balanced(pool, "invalid", begin, turns=peek.turns)
        case _:
            pass
    backend = pool.pinned(pin.backend)
    if backend is None:
        begin = f"The cookie names {_gone(pool, pin.backend)}. A session may go on elsewhere, so it is balanced anew."
        return _balanced(pool, "down", begin, turns=peek.turns)
    text = f"The cookie is valid, was last used {used_s} s ago and names {backend.name}, which {_serves(backend)}."
    return Verdict(pool=pool.name, backend=backend.name, finding="valid", text=text)


def why_state(pool: Pool, question: StateQuestion, peek: Peek) -> Verdict:
    """Where the second half of a RADIUS sign-in goes. Raises Refused for a pool without pins by State."""
    affinity = pool.config.affinity
    if not isinstance(affinity, RadiusStateAffinity):
        raise _other_affinity(pool, "radius_state")
    state = bytes.fromhex(question.state.removeprefix("0x").removeprefix("0X"))
    key = radius_state_key(pool.name, question.client, question.user.encode(), state)
    is_told = affinity.when_pinned_down is RefusalForm.REJECT
    refusal = "an Access-Reject tells the user to sign in again" if is_told else "the request gets no answer"
    return _by_table(pool, key, peek, refusal)


def why_request_id(pool: Pool, question: RequestIdQuestion, peek: Peek) -> Verdict:
    """Where the second half of a transaction goes. Raises Refused for a pool without pins by transaction."""
    affinity = pool.config.affinity
    if isinstance(affinity, TransactionIdAffinity):
        key = transaction_id_key(pool.name, question.request_id.encode())
    elif not isinstance(affinity, TransactionAffinity):
        raise _other_affinity(pool, "transaction")
    elif affinity.user_element is None:
        key = transaction_key(pool.name, "", question.request_id)
    elif question.user is None:
        raise Refused(f"user: pool '{pool.name}' knows transactions by user and id; give both")
    else:
        key = transaction_key(pool.name, question.user, question.request_id)
    return _by_table(pool, key, peek, "it is answered 503: the user has to sign in again")


def _by_table(pool: Pool, key: bytes, peek: Peek, refusal: str) -> Verdict:
    pin = peek.pin(key, peek.monotonic_s)
    if pin is None:
        agreed = pool.agreed(key)
        text = "No pin is known: it has expired, was never made, or these are not the words it was made with. "
        if agreed is None:
            text += "No backend is up that could take it."
            return Verdict(pool=pool.name, backend=None, finding="unknown", text=text)
        text += f"By a hash that every node shares it goes to {agreed.name}, which {_serves(agreed)}."
        return Verdict(pool=pool.name, backend=agreed.name, finding="unknown", text=text)
    backend = pool.pinned(pin.backend)
    if backend is None:
        text = f"It is pinned to {_gone(pool, pin.backend)}. No other can finish it, so {refusal}."
        return Verdict(pool=pool.name, backend=None, finding="down", text=text)
    left_s = round(pin.expires_at - peek.monotonic_s)
    text = f"It is pinned to {backend.name}, which began it and {_serves(backend)}; the pin counts for {left_s} s more."
    return Verdict(pool=pool.name, backend=backend.name, finding="valid", text=text)


def read_source(text: str) -> IPv4Address | IPv6Address:
    """The address in IP, IP:port or [IP]:port. Raises Refused."""
    host = text
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        host = text.partition(":")[0]
    try:
        return ip_address(host)
    except ValueError:
        raise Refused("source: this is no address; write IP, IP:port or [IP]:port") from None


def why_source(pool: Pool, key: bytes | None, turns: Sequence[str | None]) -> Verdict:
    """Where something new goes. `key` is what the pool's hash is made of; None when the source does not tell it.

    `turns` says for each worker who is the next there; None where chance decides.
    """
    by = pool.config.hash
    if pool.config.algorithm is not Algorithm.HASH or by is None:
        return _balanced(pool, "none", "It carries no pin.", turns=turns)
    if key is None:
        begin = f"The hash is made of {by.key}, which an address does not tell; this is for a request without it."
        return _balanced(pool, "none", begin, turns=turns)
    return _balanced(pool, "none", f"The hash is made of {by.key}.", key, turns)


def _balanced(
    pool: Pool,
    finding: str,
    begin: str,
    key: bytes = NO_KEY,
    turns: Sequence[str | None] = (),
) -> Verdict:
    """What takes its turn. Workers have turns of their own, so that one backend can be named only when they agree."""
    known = set(turns)
    is_split = len(known) > 1
    agreed = pool.backends.get(turns[0] or "") if turns else pool.peek(key)
    backend = None if is_split else agreed
    names = [one.name for one in pool.candidates]
    if not names:
        how = "Nobody may take it: no backend is up and in service, so it is refused."
    elif is_split:
        each = ", ".join(f"worker {number}: {name}" for number, name in enumerate(turns))
        how = f"Each worker has turns of its own; the next ones are {each}, among {', '.join(names)}."
    elif backend is None:
        how = f"Chance draws two of {', '.join(names)}, and the less busy one gets it."
    elif len(names) == 1:
        how = f"{names[0]} is the only one that takes new work."
    elif key:
        how = f"{backend.name} wants this key most of those that have room ({', '.join(names)})."
    elif pool.config.algorithm is Algorithm.LEAST_CONNECTIONS:
        how = f"{backend.name} has the least to do for its weight of {', '.join(names)}: {backend.active} under way."
    else:
        how = f"The next in turn is {backend.name}, among {', '.join(names)}."
    if names and not any(one.takes_new for one in pool.candidates):
        how += " (In need: none is up and ready.)"
    name = None if backend is None else backend.name
    return Verdict.model_validate({"pool": pool.name, "backend": name, "finding": finding, "text": f"{begin} {how}"})


def _serves(backend: Backend) -> str:
    text = "is up"
    if backend.admin_state is AdminState.DRAIN:
        text += ", and draining: what is pinned to it is still served"
    return f"{text}, but has as much as it may: it waits in the queue" if backend.is_full else text


def _gone(pool: Pool, name: str) -> str:
    backend = pool.backends.get(name)
    if backend is None:
        return f"{name}, which this pool no longer has"
    if backend.admin_state is AdminState.MAINT:
        return f"{name}, which is in maint"
    if backend.is_ejected:
        return f"{name}, which is ejected as its traffic failed"
    is_down = backend.health.health is Health.DOWN
    return f"{name}, which is down ({backend.health.reason})" if is_down else f"{name}, which is yet to be checked"


def _other_affinity(pool: Pool, wanted: str) -> Refused:
    return Refused(f"pool '{pool.name}' has affinity {pool.config.affinity.type}; this asks about {wanted}")
