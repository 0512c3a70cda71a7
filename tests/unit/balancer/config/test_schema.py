import json
from typing import Any

import pytest

from mfalb.balancer.config.models import Pool
from mfalb.balancer.config.outline import accepted_keys
from mfalb.balancer.config.presets import PRESETS
from mfalb.balancer.config.schema import json_schema
from mfalb.balancer.config.tables import Table


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(json_schema()))
    return read


def tables(base: type[Table] = Table) -> list[type[Table]]:
    return [table for child in base.__subclasses__() for table in (child, *tables(child))]


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.__name__)
def test_each_table_has_exactly_the_keys_that_a_file_may_have(schema: dict[str, Any], table: type[Table]) -> None:
    definition = schema if table.__name__ == "Config" else schema["$defs"].get(table.__name__)
    if definition is None:
        assert table.__subclasses__(), "only a base of other tables may be missing"
    else:
        assert set(definition["properties"]) == set(accepted_keys(table))
        assert definition["additionalProperties"] is False


def test_a_required_secret_asks_for_one_of_its_sources(schema: dict[str, Any]) -> None:
    client = schema["$defs"]["RadiusClient"]
    assert client["required"] == ["name", "network"]
    assert client["oneOf"] == [{"required": ["secret_file"]}, {"required": ["secret_env"]}]
    assert schema["$defs"]["Backend"]["not"] == {"required": ["secret_file", "secret_env"]}


def test_defaults_are_written_as_in_a_file(schema: dict[str, Any]) -> None:
    limits = schema["$defs"]["HttpLimits"]["properties"]
    assert (limits["header_bytes"]["default"], limits["header_timeout"]["default"]) == ("32KiB", "10s")
    assert schema["$defs"]["Admin"]["properties"]["bind"]["default"] == "127.0.0.1:9300"


def test_an_affinity_may_be_a_preset(schema: dict[str, Any]) -> None:
    affinity = schema["$defs"][Pool.__name__]["properties"]["affinity"]
    assert affinity["anyOf"][1]["properties"]["preset"]["enum"] == list(PRESETS)


def test_the_schema_names_its_dialect_and_subject(schema: dict[str, Any]) -> None:
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["title"] == "mfalb configuration"
