"""Package indexes for uv: uv's own configuration or, if there is none, pip's, which uv itself ignores."""

import configparser
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from platformdirs import site_config_path, user_config_path

UV_SAYS = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_CONFIG_FILE",
    "UV_NO_INDEX",
    "UV_OFFLINE",
)


def uv_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment variables that make uv use pip's indexes, links and certificates; empty if uv is configured."""
    if any(environ.get(name) for name in UV_SAYS) or any(path.is_file() for path in _uv_files(environ)):
        return {}
    pip = _pip_settings(environ)
    found = {
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": " ".join(pip.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(pip.get("find-links", "").split()),
        "SSL_CERT_FILE": environ.get("SSL_CERT_FILE") or pip.get("cert", ""),
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
    }
    if found["UV_INDEX"]:
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # as pip does: all indexes are equal
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        found["UV_NO_INDEX"] = "1"
    return {name: value for name, value in found.items() if value}


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's settings; later sources take precedence: site, user, environment, PIP_CONFIG_FILE, PIP_* variables."""
    settings: dict[str, str] = {}
    for path in _pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                settings.update(parser.items(section))
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings


def _pip_files(environ: Mapping[str, str]) -> list[Path]:
    given = environ.get("PIP_CONFIG_FILE")
    if given == os.devnull:
        return []
    files = [
        Path("/etc/pip.conf"),
        site_config_path("pip") / "pip.conf",
        *_of_user(lambda: Path.home() / ".pip" / "pip.conf"),
        *_of_user(lambda: user_config_path("pip") / "pip.conf"),
        Path(sys.prefix) / "pip.conf",
    ]
    return [*files, Path(given)] if given else files


def _uv_files(environ: Mapping[str, str]) -> list[Path]:
    return [Path("/etc/uv/uv.toml"), *_of_user(lambda: user_config_path("uv") / "uv.toml")]


def _of_user(path: Callable[[], Path]) -> list[Path]:
    """The path, unless this user has no home."""
    try:
        return [path()]
    except RuntimeError:
        return []
