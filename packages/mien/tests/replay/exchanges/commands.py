"""Commands, with the server beside them that some of them talk to."""

from dataclasses import replace

from ..steps import Command, Step

GROUPS = {
    "apps": ("deploy", "list", "show", "rollback", "rm", "prune"),
    "models": ("list", "pull", "verify", "path", "info", "load", "unload", "loaded"),
    "keys": ("create", "list", "revoke"),
    "nodes": ("list", "info", "ping", "watch"),
    "tasks": ("list", "show", "logs", "cancel", "watch"),
}
ALONE = ("serve", "node", "demo", "faces", "infer", "tune", "doctor", "version", "run", "status")
FACE = "face.jpg"
NOWHERE = ["--url", "http://127.0.0.1:1"]


def alone() -> list[Step]:
    """Those that need no server."""
    return [*_help(), *_here(), *_wrong()]


def of_the_server() -> list[Step]:
    """Those that talk to the server, or look at its data."""
    steps = [*_of_the_server(), *_wrong_of_the_server()]
    return [replace(step, name=step.name.replace("commands/", "commands beside a server/")) for step in steps]


def mien(line: str, *more: str, **environment: str) -> Command:
    """The command written as in a shell; `more` are arguments with blanks in them."""
    name = " ".join([line, *more, *(f"{key}={value}" for key, value in environment.items())])
    shown = name.replace("{{", "").replace("}}", "")
    arguments = [*line.split(), *more]
    return Command(f"commands/{shown}", arguments, environment, unordered=line.startswith("run "))


def _help() -> list[Step]:
    return [
        mien(""),
        mien("--help"),
        *(mien(f"{name} --help") for name in ALONE),
        *(mien(group) for group in GROUPS),
        *(mien(f"{group} --help") for group in GROUPS),
        *(mien(f"{group} {name} --help") for group, names in GROUPS.items() for name in names),
    ]


def _here() -> list[Step]:
    return [
        mien("version"),
        mien("models list"),
        mien("models path age"),
        mien("models info gender"),
        mien("models verify yunet age"),
        mien("models pull yunet"),
        mien("keys list"),
        mien("apps list"),
        mien("apps show mien/faces"),
        mien(f"faces {FACE} --json --attributes"),
        mien(f"faces {FACE} --threshold 0.5"),
    ]


def _of_the_server() -> list[Command]:
    here = ("--url", "{{server}}")
    return [
        mien("status --output json"),
        mien("nodes list"),
        mien("nodes list --output json"),
        mien("tasks show {{task.error}} --output yaml"),
        mien("nodes info local"),
        mien("nodes info nobody"),
        mien("nodes ping local"),
        mien(f"infer {FACE} --service face_detection --output json"),
        mien(f"infer {FACE} --service face_detection --stream --output json"),
        mien("infer --service embedding", "--text", "a fox"),
        mien("infer --service embedding --text x --task nothing"),
        mien(f"infer {FACE} --service classification --meta top_k=1"),
        mien("tasks list --app mien/classify --limit 2"),
        mien("tasks list --status failed --limit 1 --output json"),
        mien("tasks show {{task.error}}"),
        mien("tasks show {{task.error}} --output json"),
        mien("tasks logs {{task.warm}}"),
        mien("tasks watch {{task.cold}}"),
        mien("tasks watch {{task.error}}"),
        mien("tasks cancel {{task.cold}}"),
        mien("run test/kit --output json", "--input", "text=hello you"),
        mien("run test/kit --input do=fail --input text=x"),
        mien("run mien/classify --input top_k=1 --output json", "--file", f"image={FACE}"),
        mien("run test/nothing --input text=x"),
        mien("run test/kit --input nothing"),
        mien("run test/kit --file file=/nowhere"),
        mien("apps list", *here),
        mien("apps show test/kit", *here),
        mien("apps rollback test/kit", *here),
        mien("apps rm test/nothing", *here),
        mien("apps list"),
        mien("apps show test/kit"),
        mien("apps rollback test/kit"),
        mien("keys list"),
    ]


def _wrong_of_the_server() -> list[Command]:
    return [
        mien("tasks list --status done"),
        mien("tasks show nobody"),
        mien("infer --service nothing --text x"),
        mien("infer --service embedding --text x --meta top"),
    ]


def _wrong() -> list[Step]:
    return [
        mien("nothing"),
        mien("--nothing"),
        mien("tasks list --output xml"),
        mien("tasks list --limit 0"),
        mien("tasks show"),
        mien("infer --service embedding"),
        mien("infer /nowhere --service embedding"),
        mien("models path nothing"),
        mien("models info nothing"),
        mien("models pull nothing"),
        mien("models verify nothing"),
        mien("apps show test/nothing"),
        mien("apps rollback test/nothing"),
        mien("apps rm test/nothing"),
        mien("apps deploy /nowhere"),
        mien("faces /nowhere"),
        mien("faces"),
        mien("serve --port 70000"),
        mien("apps prune --days -1"),
        *(
            mien(f"{line} {' '.join(NOWHERE)}")
            for line in (
                "status",
                "nodes list",
                "nodes ping local",
                "tasks list",
                "infer --service x --text y",
                "apps list",
            )
        ),
        mien("version", MIEN_PORT="many"),
        mien("keys list", MIEN_PORT="many"),
        mien("keys list", MIEN_FETCH_HEADERS="{"),
        mien("keys list", MIEN_NODES="nowhere"),
        mien("keys list", MIEN_PRESET="large"),
        mien("apps prune --dry-run --days 36500"),
    ]
