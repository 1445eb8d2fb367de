"""Names of `MIEN_*` variables: those that mean nothing, and what was probably meant."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

PREFIX = "MIEN_"
CONFIG_VARIABLE = "MIEN_CONFIG"
"""The path of the configuration file."""
OTHER_NAMES = frozenset({CONFIG_VARIABLE, "MIEN_URL", "MIEN_API_KEY"})
"""Variables that are not settings of a server; the last two are read by commands that talk to one."""

# What Kubernetes, and Docker before it, set in every container of a namespace that has a service `mien` or `mien-NAME`.
_SERVICE_LINK = re.compile(
    r"MIEN_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(r"MIEN_(\w+_)?PORT")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://.*", re.IGNORECASE)


def is_service_link(name: str, value: str | None) -> bool:
    """Whether the variable describes a Kubernetes service. `MIEN_PORT=tcp://…` does, `MIEN_PORT=8080` is a setting."""
    name = name.upper()
    if _SERVICE_LINK.fullmatch(name):
        return True
    return _SERVICE_PORT.fullmatch(name) is not None and _SERVICE_URL.fullmatch(value or "") is not None


def without_service_links(variables: Mapping[str, str | None]) -> dict[str, str | None]:
    """The variables without those that describe a Kubernetes service."""
    return {name: value for name, value in variables.items() if not is_service_link(name, value)}


def variable(setting: str) -> str:
    """The name of a setting's variable."""
    return f"{PREFIX}{setting.upper()}"


def unknown_variables(environ: Mapping[str, str], settings: Iterable[str]) -> list[str]:
    """A sentence for each `MIEN_*` variable that nothing reads. `settings`: the names of all settings, former ones too.

    Names are compared in upper case, since variables of settings are read in any case.
    """
    known = {variable(name) for name in settings} | OTHER_NAMES
    unknown = sorted(
        name
        for name, value in environ.items()
        if name.upper().startswith(PREFIX) and name.upper() not in known and not is_service_link(name, value)
    )
    return [f"{name} is not a setting{suggestion(name.upper(), known)}" for name in unknown]


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` with the nearest known name; "" if none is near."""
    # The common prefix would make any two names look alike.
    by_rest = {full.removeprefix(PREFIX): full for full in known}
    nearest = get_close_matches(name.removeprefix(PREFIX), sorted(by_rest), n=1)
    return f"; did you mean {by_rest[nearest[0]]}?" if nearest else ""
