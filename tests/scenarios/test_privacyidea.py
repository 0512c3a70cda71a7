"""Promise: privacyIDEA, which nobody here wrote, finishes the sign-ins that it began, whatever comes between.

Two real nodes from PyPI, each with its own SQLite database and the same key: what was enrolled has been replicated, a
challenge has not, as between sites whose databases are replicated asynchronously, or into which two masters write. With
one shared database any node could answer, and no affinity would be needed; so the pair here is the one that needs it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer
from programs.certificates import CertificateFiles
from programs.http_pool import http_pool, new_front
from programs.ports import LOOPBACK
from programs.privacyidea import Api, Person, PrivacyIdea, SmsGateway, enrol, people, set_up
from programs.privacyidea_radius import radius_before
from programs.process import wait_until
from programs.radclient import Target, send
from programs.radius_pool import radius_pool

PEOPLE = people(10)
PRESET: dict[str, Any] = {"preset": "privacyidea"}
CHECK = {"type": "http", "path": "/healthz/readyz", "interval": "300ms", "timeout": "5s", "rise": 1, "fall": 2}
Begun = tuple[Person, str]  # who, and the transaction's id


@dataclass(frozen=True, slots=True)
class Pair:
    """Both nodes, the gateway of their texts, and how enrolment went."""

    nodes: tuple[PrivacyIdea, PrivacyIdea]
    gateway: SmsGateway
    serials: dict[str, str]
    directory: Path
    certificate: CertificateFiles
    secrets: list[str]

    @contextmanager
    def balanced(self, affinity: dict[str, Any]) -> Iterator[tuple[Balancer, Api]]:
        """A balancer before both, and its clients' view of them."""
        front = new_front(self.certificate)
        addresses = [node.address for node in self.nodes]
        config = {
            "listeners": [front.listener("otp", [{"pool": "otp"}])],
            "pools": {"otp": http_pool(*addresses, affinity=affinity, health_check=CHECK)},
        }
        with Balancer(config, self.directory / f"mfalb-{front.port}", secrets=self.secrets) as balancer:
            yield balancer, Api(front)

    @contextmanager
    def balanced_to_both(self, affinity: dict[str, Any]) -> Iterator[tuple[Balancer, Api]]:
        """The same, once both are up."""
        with self.balanced(affinity) as (balancer, api):
            wait_until(lambda: balancer.backend("otp", "b2")["health"] == "up", "node 2 is up")
            wait_until(lambda: balancer.backend("otp", "b1")["health"] == "up", "node 1 is up")
            yield balancer, api

    def took(self, action: str) -> list[int]:
        """How many such requests each node has answered."""
        return [len(node.audit(action)) for node in self.nodes]

    def text_for(self, person: Person) -> str:
        return self.gateway.texts[person.phone][-1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles) -> Iterator[Pair]:
    """Tokens are enrolled through the balancer while the second node is away; it comes with the replicated database."""
    directory = tmp_path_factory.mktemp("privacyidea")
    with ExitStack() as stack:
        gateway = stack.enter_context(SmsGateway())
        one, two = nodes = PrivacyIdea("node1", directory), PrivacyIdea("node2", directory)
        for node in nodes:
            node.write_config()
        one.create_database()
        stack.enter_context(one)
        running = Pair(nodes, gateway, {}, directory, certificate, [person.user_pin for person in PEOPLE])
        with running.balanced(PRESET) as (_, api):
            admin = api.as_admin()
            set_up(admin, gateway, directory, PEOPLE)
            running.serials.update((person.name, enrol(admin, person)) for person in PEOPLE)
        two.replicate_from(one)
        stack.enter_context(two)
        yield running


def begin(api: Api, admin: Api, number: int, person: Person) -> Begun:
    """Half one: by the user PIN in a form or in JSON, or triggered by the administrator of an application."""
    if number % 3 == 0:
        answer = admin.call("POST", "/validate/triggerchallenge", document={"user": person.name})
    elif number % 3 == 1:
        answer = api.call("POST", "/validate/check", form={"user": person.name, "pass": person.user_pin})
    else:
        answer = api.call("POST", "/validate/check", document={"user": person.name, "pass": person.user_pin})
    assert answer["result"]["authentication"] == "CHALLENGE", answer["result"]
    return person, answer["detail"]["transaction_id"]


def finish(api: Api, number: int, begun: Begun, code: str) -> bool:
    """Half two, in one of the ways that plugins have to say which transaction it is."""
    person, transaction_id = begun
    fields = {"user": person.name, "pass": code, "transaction_id": transaction_id}
    if number % 4 == 0:
        answer = api.call("POST", "/validate/check", form=fields)
    elif number % 4 == 1:
        answer = api.call("POST", "/validate/check", document=fields)
    elif number % 4 == 2:
        answer = api.call("GET", f"/validate/check?user={person.name}&pass={code}&transaction_id={transaction_id}")
    else:
        answer = api.call("POST", "/validate/check", form={"user": person.name, "pass": code, "state": transaction_id})
    return bool(answer["result"]["value"])


def begin_all(pair: Pair, api: Api, admin: Api) -> list[Begun]:
    """Everybody begins; returned in another order. From now on no log of the balancer may hold these ids."""
    begun = [begin(api, admin, number, person) for number, person in enumerate(PEOPLE)]
    pair.secrets.extend(transaction_id for _, transaction_id in begun)
    random.Random(7).shuffle(begun)  # noqa: S311 - an order, not a secret
    return begun


def sign_in_all(pair: Pair, api: Api) -> list[bool]:
    """Everybody begins, then everybody finishes."""
    begun = begin_all(pair, api, api.as_admin())
    return [finish(api, number, one, pair.text_for(one[0])) for number, one in enumerate(begun)]


def test_tokens_that_were_enrolled_through_the_balancer_are_known_to_both_nodes(pair: Pair) -> None:
    assert len(set(pair.serials.values())) == len(PEOPLE)
    for node in pair.nodes:
        found = Api(node.front).as_admin().value("GET", "/token/?pagesize=100")
        assert {token["serial"] for token in found["tokens"]} == set(pair.serials.values())


def test_every_challenge_is_answered_where_it_was_triggered(pair: Pair) -> None:
    texts_before = sum(map(len, pair.gateway.texts.values()))
    before = pair.took("POST /validate")
    with pair.balanced_to_both(PRESET) as (balancer, api):
        assert sign_in_all(pair, api) == [True] * len(PEOPLE)
        metrics = balancer.metrics()
        assert metrics.total("mfalb_pins_made_total") == len(PEOPLE)
        assert metrics.total("mfalb_pins_hit_total") == len(PEOPLE)
    assert sum(map(len, pair.gateway.texts.values())) - texts_before == len(PEOPLE), "each phone got one text"
    took = [after - earlier for after, earlier in zip(pair.took("POST /validate"), before, strict=True)]
    assert all(took), f"one node took every sign-in: {took}"


def test_without_affinity_about_half_of_the_answers_reach_the_node_that_never_asked(pair: Pair) -> None:
    with pair.balanced_to_both({"type": "none"}) as (_, api):
        accepted = sum(sign_in_all(pair, api))
    assert len(PEOPLE) / 8 <= accepted <= len(PEOPLE) * 7 / 8, f"{accepted} of {len(PEOPLE)} were accepted"


def test_who_polls_or_cancels_a_challenge_reaches_the_node_that_has_it(pair: Pair) -> None:
    with pair.balanced_to_both(PRESET) as (_, api):
        admin = api.as_admin()
        for _, transaction_id in begin_all(pair, api, admin):
            for target in (f"/{transaction_id}", f"?transaction_id={transaction_id}"):
                assert api.call("GET", f"/validate/polltransaction{target}")["detail"]["challenge_status"] == "pending"
            cancelled = admin.value("DELETE", f"/token/challenges/transaction/{transaction_id}")
            assert cancelled["deleted"] == 1
    polls = [entry for node in pair.nodes for entry in node.audit("GET /validate/polltransaction")]
    assert len(polls) == 2 * len(PEOPLE)
    assert {entry["serial"] for entry in polls} == set(pair.serials.values()), "each poll found its challenge"


def radius_sign_ins(pair: Pair, run_dir: Path, affinity: Mapping[str, Any]) -> Counter[str]:
    """Everybody signs in by RADIUS, halves in another order: the codes of the second answers."""
    with ExitStack() as stack:
        fronts = [
            stack.enter_context(radius_before(node, f"radius{number}", run_dir, f"towards-radius-server-{number}"))
            for number, node in enumerate(pair.nodes, 1)
        ]
        pool = radius_pool(fronts, run_dir, affinity=affinity)
        stack.enter_context(Balancer(pool.config, run_dir / "mfalb", secrets=[*pool.secrets, *pair.secrets]))
        target = Target(LOOPBACK, pool.port, pool.client_secret, parallel=2)
        asked = send(target, [[("User-Name", one.name), ("User-Password", one.user_pin)] for one in PEOPLE])
        begun = []
        for person, answer in zip(PEOPLE, asked, strict=True):
            assert answer is not None
            assert answer.code == "Access-Challenge", answer.code
            begun.append((person, answer.attributes["State"]))
        random.Random(7).shuffle(begun)  # noqa: S311 - an order, not a secret
        second = [
            [("User-Name", person.name), ("User-Password", pair.text_for(person)), ("State", state)]
            for person, state in begun
        ]
        return Counter("silence" if answer is None else answer.code for answer in send(target, second))


def test_over_radius_every_challenge_is_answered_where_it_was_triggered(pair: Pair, tmp_path: Path) -> None:
    assert radius_sign_ins(pair, tmp_path, {"preset": "radius_challenge"}) == {"Access-Accept": len(PEOPLE)}


def test_over_radius_without_affinity_about_half_of_the_answers_are_rejected(pair: Pair, tmp_path: Path) -> None:
    codes = radius_sign_ins(pair, tmp_path, {"type": "none"})
    assert codes.keys() == {"Access-Accept", "Access-Reject"}
    assert len(PEOPLE) / 8 <= codes["Access-Reject"] <= len(PEOPLE) * 7 / 8, codes
