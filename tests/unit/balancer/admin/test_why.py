import pytest
from unit.balancer.affinity.node_pins import pin_hub
from unit.balancer.exchange.http_world import make_pool

from mfalb.balancer.admin.api_models import RequestIdQuestion
from mfalb.balancer.admin.operations import Refused
from mfalb.balancer.admin.why import Peek, why_request_id
from mfalb.balancer.affinity.store import Pin
from mfalb.balancer.affinity.transaction import transaction_key
from mfalb.balancer.affinity.transaction_id import transaction_id_key
from mfalb.balancer.config.models import TransactionAffinity
from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity

BY_ID = TransactionIdAffinity(type="transaction_id", answer_json=("/id",), request_form=("id",))
BY_CODE = TransactionAffinity(type="transaction", user_element=None)
BY_USER = TransactionAffinity(type="transaction")


def question(user: str | None) -> RequestIdQuestion:
    return RequestIdQuestion(kind="request_id", pool="web", request_id="17", user=user)


@pytest.mark.parametrize(
    ("affinity", "key"), [(BY_ID, transaction_id_key("web", b"17")), (BY_CODE, transaction_key("web", "", "17"))]
)
@pytest.mark.parametrize("user", [None, "alice"])
def test_an_id_that_servers_give_only_once_needs_no_user(
    affinity: TransactionIdAffinity | TransactionAffinity, key: bytes, user: str | None
) -> None:
    pins = pin_hub()
    pins.put(Pin(key, "b2", 1300.0), 1000.0)
    verdict = why_request_id(make_pool(affinity=affinity), question(user), Peek(pins.look, None, 1000.0, 1000.0))
    assert (verdict.backend, verdict.finding) == ("b2", "valid")
    assert "17" not in verdict.text.replace("300 s", "")


def test_where_small_ids_collide_the_user_is_asked_for() -> None:
    peek = Peek(pin_hub().look, None, 1000.0, 1000.0)
    with pytest.raises(Refused, match="user: pool 'web' knows transactions by user and id; give both"):
        why_request_id(make_pool(affinity=BY_USER), question(None), peek)
