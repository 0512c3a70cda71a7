"""`mfalb demo`: the whole thing on loopback, with three kinds of sign-in, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from contextlib import AsyncExitStack
from enum import Enum
from pathlib import Path
from typing import Annotated, Final

import typer

from mfalb.cli.demo_balancer import start_balancer
from mfalb.cli.demo_failures import DemoFailed
from mfalb.cli.demo_ha import HaDemonstration, print_what_to_try, start_ha
from mfalb.cli.demo_setup import Site, new_site, write_configuration
from mfalb.cli.demo_sign_ins import Demonstration, Halves
from mfalb.errors import MfalbError
from mfalb.reference.config.values import User
from mfalb.reference.estate import Estate

_SIGN_INS_EACH: Final = 2  # of a kind, so that both servers are seen at work


class Topology(Enum):
    """What is started."""

    SIMPLE = "simple"
    HA = "ha"


def demo(
    *,
    topology: Annotated[
        Topology,
        typer.Option("--topology", help="simple: MFA servers, portals, cloud, balancer. ha: all of conf/contoso."),
    ] = Topology.SIMPLE,
    once: Annotated[bool, typer.Option("--once", help="End after the sign-ins instead of staying up.")] = False,
    sign_ins: Annotated[
        int, typer.Option("--sign-ins", min=1, help="With ha: how many sign-ins at AD FS are made each time.")
    ] = 20,
) -> None:
    """Start MFA servers, portals, a cloud service and the balancer on loopback; sign users in; stay up.

    With `--topology ha --once` the master is killed and replaced, and a server drained, between the sign-ins.
    """
    with tempfile.TemporaryDirectory(prefix="mfalb-demo-") as directory:
        try:
            if topology is Topology.HA:
                asyncio.run(_ha(Path(directory), sign_ins, once=once))
            else:
                asyncio.run(_simple(new_site(Path(directory)), once=once))
        except MfalbError as error:
            typer.echo(f"mfalb demo: {error}", err=True)
            raise typer.Exit(1) from None


async def _ha(folder: Path, sign_ins: int, *, once: bool) -> None:
    stop = _stop_signal()
    async with AsyncExitStack() as stack:
        running = await start_ha(folder, stack)
        demonstration = HaDemonstration(running, sign_ins)
        await demonstration.sign_in_everywhere()
        if once:
            await demonstration.lose_and_replace_the_master()
            await demonstration.drain_a_server()
        await demonstration.print_balance()
        if once:
            return
        print_what_to_try(running)
        await _stay_up(stop)
    print("Stopped.")


async def _simple(site: Site, *, once: bool) -> None:
    stop = _stop_signal()
    async with AsyncExitStack() as stack:
        print("Starting two MFA servers, two User Portals and the cloud MFA Service ...")
        estate = await stack.enter_async_context(Estate(site.plan(), site.directory))
        configuration = write_configuration(site, estate)
        await start_balancer(configuration, stack)
        await _sign_in_everybody(site, estate)
        _print_addresses(site, estate)
        if once:
            return
        await _stay_up(stop)
    print("Stopped.")


def _stop_signal() -> asyncio.Event:
    """Set by SIGTERM and Ctrl-C."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _stay_up(stop: asyncio.Event) -> None:
    print("\nEverything stays up until Ctrl-C.", flush=True)
    await stop.wait()
    print("\nStopping ...")


async def _sign_in_everybody(site: Site, estate: Estate) -> None:
    demonstration = Demonstration(site, estate)
    kinds = (
        ("RADIUS, one-way SMS", demonstration.radius, "the NAS sent half two from another port"),
        ("Web Service SDK, one-way SMS", demonstration.sdk, "two connections, no cookies"),
        ("User Portal, then SDK", demonstration.portal, "one cookie jar"),
    )
    turns = iter(site.users * len(kinds))
    for title, sign_in, how in kinds:
        print(f"\n{title} ({how})")
        for _ in range(_SIGN_INS_EACH):
            user = next(turns)
            _print_halves(user, await sign_in(user))
    texts = await estate.cloud.texts_sent()
    print(f"\nTexts sent: {sum(texts.values())}, for {_SIGN_INS_EACH * len(kinds)} sign-ins.")


def _print_halves(user: User, halves: Halves) -> None:
    verdict = "same server" if halves.first == halves.second else "DIFFERENT SERVERS"
    print(f"  {user.name:<6} half one on {halves.first:<8} half two on {halves.second:<8} {verdict}, signed in")
    if halves.first != halves.second:
        raise DemoFailed("the second half came to another server than the first")


def _print_addresses(site: Site, estate: Estate) -> None:
    user = site.users[0]
    account = f"{site.account.name}:{site.account.password}"
    print(
        f"""
Addresses
  User Portal       {site.portal_url}
  Web Service SDK   {site.sdk_url}
  RADIUS            127.0.0.1:{site.radius_port}/udp   secret {site.radius_secret}
  SMS outbox        {estate.cloud.url}/outbox
  Metrics, status   {site.admin_url}/metrics   {site.admin_url}/status
  Users             {", ".join(f"{someone.name} (password {someone.password})" for someone in site.users)}

Try it. Half one, then half two with the STATE (or ID) that half one printed and the CODE from the SMS outbox:

  echo 'User-Name={user.name},User-Password={user.password},Message-Authenticator=0x00' |
    radclient -x 127.0.0.1:{site.radius_port} auth {site.radius_secret}

  echo 'User-Name={user.name},User-Password=CODE,State=STATE,Message-Authenticator=0x00' |
    radclient -x 127.0.0.1:{site.radius_port} auth {site.radius_secret}

  curl --cacert {site.ca} -u '{account}' -H 'Content-Type: text/xml' -d '{
            _soap("PfAuthUser_4", f"<username>{user.name}</username>")
        }' {site.sdk_url}

  curl --cacert {site.ca} -u '{account}' -H 'Content-Type: text/xml' -d '{
            _soap("VerifyOneWayOtp", f"<username>{user.name}</username><authreqid>ID</authreqid><otp>CODE</otp>")
        }' {site.sdk_url}

  curl --cacert {site.ca} -b {site.directory}/jar -c {site.directory}/jar -i {site.portal_url}""",
        flush=True,
    )


def _soap(method: str, parameters: str) -> str:
    """A SOAP call as short as it can be, for a command line."""
    envelope = "http://schemas.xmlsoap.org/soap/envelope/"
    return f'<Envelope xmlns="{envelope}"><Body><{method}>{parameters}</{method}></Body></Envelope>'
