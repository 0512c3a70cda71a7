from mfalb.telemetry.metrics import ListenerCounters


def test_counters_of_two_listeners_are_their_own() -> None:
    one, other = ListenerCounters("web", "http"), ListenerCounters("radius", "radius")
    one.answers["2xx"] += 1
    one.drops["truncated"] += 2
    assert (one.answers["2xx"], one.drops["truncated"], one.answers["5xx"]) == (1, 2, 0)
    assert (dict(other.answers), dict(other.drops), other.requests) == ({}, {}, 0)
