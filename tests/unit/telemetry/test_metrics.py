from mfalb.telemetry.metrics import ListenerCounters


def test_counters_of_two_listeners_are_their_own() -> None:
    one, other = ListenerCounters("web", "http"), ListenerCounters("radius", "radius")
    one.count_answer("2xx")
    one.drops["truncated"] += 2
    assert (one.answers, one.drops["truncated"], one.drops["other"]) == ({"2xx": 1}, 2, 0)
    assert (dict(other.answers), dict(other.drops), other.requests) == ({}, {}, 0)
