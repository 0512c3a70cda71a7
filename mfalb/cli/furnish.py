"""`mfalb reference furnish`: throw-away certificates and secrets, with which a deployment's folder can be started."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mfalb.cli.deployment import Deployment, read_deployment
from mfalb.cli.deployment_files import furnish as write_files

_MADE = ("*/tls/*", "*/secrets/*")


def furnish(
    folder: Annotated[Path, typer.Argument(help="A copy of conf/contoso, or a folder of that kind.")],
) -> None:
    """Make certificates, keys and secrets for every host of a deployment's folder, to try it with; good for a week."""
    try:
        deployment = _bare_deployment(folder)
        write_files(folder, deployment)
    except (OSError, ValueError, KeyError, TypeError) as error:
        typer.echo(f"mfalb reference: {error}", err=True)
        raise typer.Exit(1) from None
    hosts = sorted({service.host for service in deployment.services})
    print(f"Certificates and secrets are in the folders of {', '.join(hosts)};")
    print("what clients need is in the folder clients. Copy each folder to its host.")


def _bare_deployment(folder: Path) -> Deployment:
    """A deployment none of whose files has been made. Raises OSError, ValueError."""
    deployment = read_deployment(folder)
    if not deployment.services:
        raise ValueError(f"{folder} has no HOST/SERVICE.yaml")
    found = [path for pattern in _MADE for path in folder.glob(pattern)]
    if found:
        raise ValueError(f"{found[0]} is there already: nothing was written")
    return deployment
