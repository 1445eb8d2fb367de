"""`mien …`: one function per command; an error is one sentence and exit code 1."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.markup import escape

from mien import __version__
from mien.cli.client import DEFAULT_URL, ApiKey, Url
from mien.cli.config import ConfigFile, unread
from mien.cli.config import config as config_commands
from mien.cli.output import Output, err, out
from mien.detection_size import DetectionSize, parse_detection_size
from mien.errors import InvalidSettings, MienError
from mien.imports import importing
from mien.places import require_places
from mien.settings import Provenance, Settings, unknown_names

log = structlog.get_logger()
GRPC_PORT = 50051  # where Lumen nodes are by convention


class Commands(typer.core.TyperGroup):
    """Prints Mien's errors as one sentence on stderr."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidSettings as error:
            for problem in error.problems:
                err.print(f"[bold red]error[/] ({error.code}): {escape(problem)}", soft_wrap=True)
            raise typer.Exit(1) from None
        except MienError as error:
            err.print(f"[bold red]error[/] ({error.code}): {escape(error.message)}", soft_wrap=True)
            raise typer.Exit(1) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            err.print(f"[bold red]error[/] (files): {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A self-hosted inference server for faces, images and your own Python models.",
)


def _add_groups() -> None:
    from mien.cli.apps import apps
    from mien.cli.keys import keys
    from mien.cli.models import models
    from mien.cli.nodes import nodes, status
    from mien.cli.owners import owners
    from mien.cli.run import run as run_app
    from mien.cli.tasks import tasks

    app.add_typer(apps, name="apps", help="Deploy, list, show, roll back and remove apps.")
    app.add_typer(models, name="models", help="List, pull and verify models.")
    app.add_typer(config_commands, name="config", help="Show and check the settings.")
    app.add_typer(keys, name="keys", help="Create, list and revoke API keys.")
    app.add_typer(owners, name="owners", help="Show and set the quotas of owners.")
    app.add_typer(nodes, name="nodes", help="List, show, ping and watch the nodes of a running server.")
    app.add_typer(tasks, name="tasks", help="List, show, cancel and watch the tasks of a running server.")
    app.command("run")(run_app)
    app.command()(status)


_add_groups()


@app.callback()
def options(config: ConfigFile = None) -> None:
    """A self-hosted inference server for faces, images and your own Python models."""


@app.command()
def version() -> None:
    """Print the version."""
    out.print(__version__)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The only port. Default: 8080 and 18081.")] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Listen beyond loopback without API keys.")] = False,
    images_root: Annotated[
        Path | None, typer.Option(help="Directory below which requests may name images by path.")
    ] = None,
    detector: Annotated[str | None, typer.Option(help="Face detector.")] = None,
    recogniser: Annotated[str | None, typer.Option(help="Face recogniser.")] = None,
    grpc: Annotated[bool, typer.Option("--grpc", help="Also be a Lumen node: serve gRPC on port 50051.")] = False,
    grpc_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Also be a Lumen node, on this port.")] = None,
    config: ConfigFile = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C. Options take precedence over MIEN_* variables, these over the file."""
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "images_root": images_root,
        "detector": detector,
        "recogniser": recogniser,
        "grpc_port": grpc_port,
    }
    _serve(given, no_auth=no_auth, grpc=grpc, apis=True)


@app.command()
def node(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    grpc_port: Annotated[int | None, typer.Option(min=0, max=65535, help="The node's port. Default: 50051.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of /livez and /readyz.")] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Listen beyond loopback without API keys.")] = False,
    config: ConfigFile = None,
) -> None:
    """Run a Lumen gRPC node without the HTTP APIs: HTTP serves only /livez, /readyz and /metrics."""
    _serve({"host": host, "port": port, "grpc_port": grpc_port}, no_auth=no_auth, grpc=True, apis=False)


def _serve(given: dict[str, Any], *, no_auth: bool, grpc: bool, apis: bool) -> None:
    from mien.cli.pulling import pull_needed
    from mien.logs import configure_logs

    said = {name: value for name, value in given.items() if value is not None}
    if no_auth:
        said["auth"] = False
    settings = Settings(**said)
    if grpc and settings.nodes.grpc_port is None:
        settings = Settings(**said, grpc_port=GRPC_PORT)
    configure_logs(settings.logging)
    for words in [*unknown_names(), *unread()]:
        log.warning("settings", problem=words)
    require_places(settings, Provenance(said))
    pull_needed(settings)
    with importing():  # last: it takes a second, which errors so far need not wait for
        from mien.server import serve as run

    run(settings, apis=apis)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Directory for the annotated photo.")] = Path("demo-output"),
) -> None:
    """Start a temporary server, send it a photo, print the faces and draw them."""
    from mien.cli.demo import run_demo

    run_demo(Settings(), output)


def _detection_size(text: str) -> DetectionSize:
    try:
        return parse_detection_size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


class Turning(StrEnum):
    """Values of `--rotate`."""

    AUTO = "auto"
    OFF = "off"


@app.command()
def faces(
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of images, which are searched recursively.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line and image, including embeddings.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One row per face, without embeddings.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write JSON or CSV to this new file.")] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the --output file: images in it that have not changed are done."),
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="Write contact sheets of all faces: FACES.jpg or .png, FACES-2.jpg, …")
    ] = None,
    draw: Annotated[Path | None, typer.Option(help="Write the image with its faces drawn in (one image only).")] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Minimum detection score.")] = None,
    size: Annotated[
        Any,  # Typer cannot say number or word
        typer.Option(
            "--detection-size",
            parser=_detection_size,
            metavar="SIZE",
            help="Longest side to which images are scaled down to find faces: a number of pixels, `auto` or `full`.",
        ),
    ] = None,
    rotate: Annotated[
        Turning | None, typer.Option(help="Whether also to find faces that lie on their side or are upside down.")
    ] = None,
    attributes: Annotated[bool, typer.Option(help="Also estimate age, gender and mask.")] = False,
    quality: Annotated[
        bool, typer.Option("--quality", help="Also say how far each face can be recognised, 0 to 1.")
    ] = False,
    pose: Annotated[bool, typer.Option("--pose", help="Also say where each face looks: roll, yaw and pitch.")] = False,
    landmarks_68: Annotated[bool, typer.Option("--landmarks-68", help="Also give 68 landmarks, in JSON.")] = False,
) -> None:
    """Find faces in local images, without a server.

    Exit status 1 if an image could not be read; what is no image is named and skipped.
    """
    if as_json and as_csv:
        raise typer.BadParameter("give --json or --csv, not both")
    from mien.cli.faces import Wanted, find_faces

    given: dict[str, Any] = {
        "threshold": threshold,
        "attributes": attributes,
        "masks": attributes,
        "quality": quality,
        "pose": pose,
        "landmarks_68": landmarks_68,
        "detection_size": size,
        "rotate": None if rotate is None else rotate.value,
    }
    options: Any = {name: value for name, value in given.items() if value is not None}
    style = "json" if as_json else "csv" if as_csv else ""
    status = find_faces(Settings(), paths, options, Wanted(style, output, resume, sheet, draw))
    if status:
        raise typer.Exit(status)


@app.command()
def infer(
    files: Annotated[list[Path] | None, typer.Argument(help="Files, one payload each; `-` is stdin.")] = None,
    service: Annotated[str, typer.Option(help="The service, e.g. face_detection.")] = "",
    text: Annotated[str | None, typer.Option(help="Text to send instead of, or after, the files.")] = None,
    task: Annotated[str, typer.Option(help="Task or model. Default: the service's.")] = "",
    meta: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Metadata. May be repeated.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Show partial results as they arrive.")] = False,
    output: Output = "table",
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Send files to a service of a running server and show the result."""
    from mien.cli.client import lumen_client
    from mien.cli.infer import infer_files

    with lumen_client(url, api_key) as client:
        infer_files(
            client, service, files or [], text=text, task=task, metadata=meta or [], stream=stream, output=output
        )


@app.command()
def tune(
    names: Annotated[list[str] | None, typer.Argument(help="Models. Default: those that the server loads.")] = None,
) -> None:
    """Measure the best lanes, threads and batch size of each model on this machine, and save them."""
    from mien.cli.tune import tune_models

    tune_models(Settings(), names)


@app.command()
def doctor() -> None:
    """Check that this machine can run Mien: packages, models, ports, folders."""
    from mien.cli.doctor import examine

    if not examine(Settings()):
        raise typer.Exit(1)


def run() -> None:
    """Entry point. A pipe that closes early (`| head`) is not an error."""
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
