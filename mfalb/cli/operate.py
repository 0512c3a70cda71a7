"""The short verbs on a running balancer: status, ready, maint, weight, reload, pins."""

from __future__ import annotations

from typing import Annotated

import typer

from mfalb.balancer.admin import api_models as api
from mfalb.cli.admin_client import (
    AdminClient,
    BackendArgument,
    ConfigOption,
    JsonOption,
    SocketOption,
    client,
    duration_text,
    print_json,
    print_table,
    told_by_exit_code,
)


def status(*, socket: SocketOption = None, config: ConfigOption = None, is_json: JsonOption = False) -> None:
    """Show pools and backends: health, admin state, weight, requests under way."""
    with told_by_exit_code("status"):
        found = client(socket, config).get(api.Status, "/v1/status")
    if is_json:
        print_json(found)
        return
    print_backends(found.backends)
    if found.workers.serving < found.workers.configured:
        print(workers_text(found.workers))
    for pool in found.pools:
        if pool.is_panicking:
            print(f"Pool {pool.name} is in panic: too few of its backends are up, health is ignored for new work.")
        elif not pool.can_serve:
            print(f"Pool {pool.name} has no backend that can serve.")


def ready(
    backend: BackendArgument,
    *,
    socket: SocketOption = None,
    config: ConfigOption = None,
    is_json: JsonOption = False,
) -> None:
    """Give a backend new work again, after drain or maint."""
    with told_by_exit_code("ready"):
        change = api.AdminStateChange(backend=backend, state="ready")
        _print_changed(client(socket, config), change, is_json=is_json)


def maint(
    backend: BackendArgument,
    *,
    socket: SocketOption = None,
    config: ConfigOption = None,
    is_json: JsonOption = False,
) -> None:
    """Give a backend nothing at all, pinned work neither, and do not probe it. See `drain` for a gentler way."""
    with told_by_exit_code("maint"):
        change = api.AdminStateChange(backend=backend, state="maint")
        _print_changed(client(socket, config), change, is_json=is_json)


def _print_changed(asked: AdminClient, change: api.AdminStateChange, *, is_json: bool) -> None:
    changed = asked.post(api.Changed, "/v1/admin-state", change)
    if is_json:
        print_json(changed)
        return
    for one in changed.backends:
        print(f"{one.pool}/{one.name} is in {one.admin_state}." if change.state == "maint" else _ready_text(one))


def _ready_text(one: api.BackendStatus) -> str:
    is_up = one.health == "up" and not one.is_ejected
    return f"{one.pool}/{one.name} is ready{'' if is_up else f', but not up ({one.reason}): it gets no work yet'}."


def weight(  # noqa: PLR0913 - options of a command
    backend: BackendArgument,
    weight: Annotated[
        int | None, typer.Argument(min=0, max=api.WEIGHT_LIMIT, help="The new weight; 0: pinned work only.")
    ] = None,
    *,
    reset: Annotated[bool, typer.Option("--reset", help="Back to the configuration's weight.")] = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
    is_json: JsonOption = False,
) -> None:
    """Change a backend's share of new work, until the balancer's end."""
    if reset is (weight is not None):
        raise typer.BadParameter(f"give either a weight (0 to {api.WEIGHT_LIMIT}) or --reset")
    with told_by_exit_code("weight"):
        change = api.WeightChange(backend=backend, weight=weight)
        changed = client(socket, config).post(api.Changed, "/v1/weight", change)
    if is_json:
        print_json(changed)
        return
    for one in changed.backends:
        print(f"{one.pool}/{one.name} has weight {one.weight} (configured: {one.configured_weight}).")


def reload(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change, and whom it would cost.")
    ] = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
    is_json: JsonOption = False,
) -> None:
    """Take up what the configuration file says now: all of it, or nothing when there is a mistake in it."""
    with told_by_exit_code("reload"):
        done = client(socket, config).post(api.Reloaded, "/v1/reload", api.ReloadOrder(dry_run=dry_run))
    if is_json:
        print_json(done)
        return
    for change in done.changes:
        print(change)
    for one in done.leaving:
        count = "sessions in cookies" if one.pins is None else f"{one.pins} pins"
        print(f"pool {one.pool}: {count} of {one.backend} are lost with it: their users begin anew")
    if not done.changes:
        print("Nothing has changed.")
    else:
        print("This would change." if done.is_dry_run else "Done.")


def pins(
    pool: Annotated[str | None, typer.Option("--pool", help="Only the backends of this pool.")] = None,
    *,
    socket: SocketOption = None,
    config: ConfigOption = None,
    is_json: JsonOption = False,
) -> None:
    """Show how many sign-ins and sessions are pinned to each backend, and for how long at most."""
    with told_by_exit_code("pins"):
        found = client(socket, config).get(api.Pins, "/v1/pins", pool=pool)
    if is_json:
        print_json(found)
        return
    if found.backends:
        counts = (
            (f"{one.pool or '(removed)'}/{one.backend}", str(one.pins), duration_text(one.longest_s))
            for one in found.backends
        )
        print_table([("POOL/BACKEND", "PINS", "LONGEST"), *counts])
    print(f"{found.total} of at most {found.limit} pins; {found.made} made, {found.hits} found, {found.misses} missed.")
    if found.cookie_pools:
        print(f"Pins of {', '.join(found.cookie_pools)} live in cookies and cannot be counted.")


def workers_text(workers: api.WorkersStatus) -> str:
    """One line about a node that is not complete."""
    silent = f"; no sign of life: {workers.silent}" if workers.silent else ""
    return f"{workers.serving} of {workers.configured} workers serve{silent}."


def print_backends(backends: tuple[api.BackendStatus, ...]) -> None:
    """A line for each backend."""
    rows: list[tuple[str, ...]] = []
    rows.append(("POOL/BACKEND", "ADDRESS", "HEALTH", "STATE", "WEIGHT", "ACTIVE", "REQUESTS", "FAILURES", "REASON"))
    for one in backends:
        changed = "" if one.weight == one.configured_weight else f" (of {one.configured_weight})"
        health = "ejected" if one.is_ejected else "degraded" if one.degraded else one.health
        numbers = map(str, (one.active, one.requests, one.failures))
        name, reason = f"{one.pool}/{one.name}", one.degraded or one.reason
        rows.append((name, one.address, health, one.admin_state, f"{one.weight}{changed}", *numbers, reason))
    print_table(rows)
