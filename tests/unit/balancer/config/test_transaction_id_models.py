import pytest
from unit.balancer.config.config_folder import LISTENERS, POOLS, Folder

from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity

NAMES_NO_PLACE = "names no place in a path; write whole segments and end with /*, as in /poll/*"


def written(keys: str) -> str:
    return f"{LISTENERS}{POOLS}    affinity: {{type: transaction_id, {keys}}}\n"


def test_ids_may_stand_in_paths_json_queries_and_forms(folder: Folder) -> None:
    config, findings = folder.read(
        written(
            'answer_json: [/id, "/ids/*"], request_path: ["/poll/*"], request_json: [/id], request_query: [id], '
            'request_form: ["the[id]"], body_limit: 1KiB, lifetime: 2m'
        )
    )
    assert findings == []
    assert config is not None
    assert config.pools["web"].affinity == TransactionIdAffinity(
        type="transaction_id",
        answer_json=("/id", "/ids/*"),
        request_path=("/poll/*",),
        request_json=("/id",),
        request_query=("id",),
        request_form=("the[id]",),
        body_limit=1024,
        lifetime_s=120.0,
    )


POINTER = "for example /detail/transaction_id, or /ids/* for each"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("answer_json: »[], request_form: [id]", "answer_json: must have at least one entry"),
        (
            "answer_json: [»id], request_form: [id]",
            f"answer_json: 'id': a JSON pointer begins with '/', and writes '~' as ~0; {POINTER}",
        ),
        (
            "answer_json: [/id], request_json: [/a, »/a~b]",
            f"request_json: '/a~b': a JSON pointer begins with '/', and writes '~' as ~0; {POINTER}",
        ),
        ("answer_json: [/id], request_path: [»/poll]", f"request_path: '/poll' {NAMES_NO_PLACE}"),
        ("answer_json: [/id], request_path: [»'/*']", f"request_path: '/*' {NAMES_NO_PLACE}"),
        ("answer_json: [/id], request_path: [»'/a*/*']", "request_path: '/a*/*' " + NAMES_NO_PLACE),
        (
            "answer_json: [/id], request_query: [»'an id']",
            "request_query: 'an id' names no parameter; use 1 to 64 visible ASCII characters",
        ),
        (
            "answer_json: [/id], request_form: »id",
            "request_form: must be a list: [one, two], or one entry a line after '- '",
        ),
    ],
)
def test_a_mistake_in_where_ids_stand_is_pointed_at(folder: Folder, keys: str, message: str) -> None:
    folder.expect(written(keys), f"error: {message}")


def test_ids_that_are_learned_must_be_looked_for(folder: Folder) -> None:
    (finding,) = folder.findings(written("answer_json: [/id]"))
    assert finding.endswith(
        "ids are learned, but no request is looked through for them; write where they stand: request_path, "
        "request_json, request_query or request_form"
    )
