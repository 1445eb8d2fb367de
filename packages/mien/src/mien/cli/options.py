"""Options shared by the commands for a running server."""

from typing import Annotated, TypeAlias

import typer

DEFAULT_URL = "http://127.0.0.1:8080"
OUTPUTS = ("table", "json", "yaml")


def _known_output(value: str) -> str:
    if value not in OUTPUTS:
        raise typer.BadParameter(f"expected one of {', '.join(OUTPUTS)}")
    return value


Url: TypeAlias = Annotated[str, typer.Option(envvar="MIEN_URL", help="The server.")]
ApiKey: TypeAlias = Annotated[str, typer.Option(envvar="MIEN_API_KEY", help="API key, if the server requires one.")]
Output: TypeAlias = Annotated[str, typer.Option(callback=_known_output, help="Format: table, json or yaml.")]
