import pytest
from pydantic import ValidationError

from mfalb.balancer.config.health_models import CheckTiming, RadiusCheck
from mfalb.balancer.config.models import Admin, Backend, Config, HttpListener, Pool, Route
from mfalb.balancer.config.radius_models import RadiusClient
from mfalb.balancer.config.tables import yaml_name
from mfalb.balancer.config.values import Address, Secret

BACKEND = Backend(name="a", address=Address("10.0.0.1", 80), secret=Secret(b"hunter2"))
CONFIG = Config(
    listeners=(
        HttpListener(
            name="web", protocol="http", bind=(Address("127.0.0.1", 80),), routes=(Route(host="a", pool="web"),)
        ),
    ),
    pools={"web": Pool(backends=(BACKEND,))},
)


@pytest.mark.parametrize(("attribute", "key"), [("interval_s", "interval"), ("header_bytes", "header_bytes")])
def test_a_yaml_key_leaves_the_unit_of_time_to_the_value(attribute: str, key: str) -> None:
    assert yaml_name(attribute) == key


def test_python_callers_use_attribute_names() -> None:
    assert CheckTiming(interval_s=2.0, timeout_s=1.0).interval_s == 2.0


def test_values_never_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        BACKEND.weight = 2


def test_equal_tables_are_equal_and_hash_alike() -> None:
    twin = Backend(name="a", address=Address("10.0.0.1", 80), secret=Secret(b"hunter2"))
    assert twin == BACKEND
    assert hash(twin) == hash(BACKEND)


def test_no_dump_of_a_configuration_shows_a_secret() -> None:
    assert "hunter2" not in f"{CONFIG!r} {CONFIG.model_dump()} {CONFIG.model_dump_json(by_alias=True)}"


def test_a_validation_error_shows_no_input() -> None:
    with pytest.raises(ValidationError) as caught:
        RadiusClient.model_validate({"name": "a", "network": "10.0.0.0/8", "secret": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_dump_is_written_as_in_a_file() -> None:
    dumped = CONFIG.model_dump(mode="json", by_alias=True)
    assert dumped["pools"]["web"]["response_timeout"] == "2m"
    assert dumped["listeners"][0]["limits"]["header_bytes"] == "32KiB"
    assert dumped["admin"] == {"bind": "127.0.0.1:9300", "socket": None, "socket_group": None}


def test_the_default_admin_address_is_loopback() -> None:
    assert Admin().bind == Address("127.0.0.1", 9300)


def test_d5_the_watchdog_of_radius_has_the_times_of_rfc_3539() -> None:
    check = RadiusCheck(type="radius")
    assert (check.interval_s, check.rise, check.fast) == (30.0, 3, False)
    assert RadiusCheck(type="radius", interval_s=6.0).interval_s == 6.0
    with pytest.raises(ValidationError, match="RFC 3539"):
        RadiusCheck(type="radius", interval_s=5.999)
    assert RadiusCheck(type="radius", interval_s=0.5, fast=True).interval_s == 0.5
