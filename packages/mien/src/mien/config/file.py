"""The configuration file, `mien.toml`: one section per component, in it the component's settings by name."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, TomlConfigSettingsSource

from mien.config.names import CONFIG_VARIABLE, suggestion
from mien.errors import InvalidSettings

NAME = "mien.toml"
TOP = ""
"""The section of the settings that stand above the first section."""
Sections = Mapping[str, Mapping[str, FieldInfo]]
"""Settings by section and name."""


def config_path() -> Path | None:
    """The file that MIEN_CONFIG names. There is no default: a file that happens to lie in the current folder must not
    open a server to others."""
    given = os.environ.get(CONFIG_VARIABLE, "")
    return Path(given).absolute() if given else None


class FileSource(TomlConfigSettingsSource):
    """Values from the file, if there is one. Raises InvalidSettings if it cannot be read."""

    def __init__(self, settings_cls: type[BaseSettings], sections: Sections) -> None:
        self.path = config_path()
        self.unknown: list[str] = []
        """A sentence for each section and key that means nothing."""
        self._sections = sections
        if self.path is not None and not self.path.is_file():
            raise InvalidSettings(f"{CONFIG_VARIABLE}: there is no file {self.path}")
        super().__init__(settings_cls, toml_file=self.path)

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        try:
            content = super()._read_file(file_path)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidSettings(f"{self.path}: not valid TOML: {error}") from error
        except RecursionError as error:
            raise InvalidSettings(f"{self.path}: nested too deeply") from error
        except OSError as error:
            raise InvalidSettings(f"{self.path}: {error.strerror}") from error
        return self._flat(content)

    def _flat(self, content: dict[str, Any]) -> dict[str, Any]:
        """The values by setting; what is not known goes to `unknown`."""
        values: dict[str, Any] = {}
        for name, value in content.items():
            if name in self._sections[TOP]:
                values[name] = value
            elif name not in self._sections or name == TOP:
                self._not_known(name, value)
            elif isinstance(value, dict):
                values.update(self._section(name, value))
            else:
                self.unknown.append(f"{self.path}: {name} is a section: [{name}]")
        return values

    def _section(self, section: str, content: dict[str, Any]) -> dict[str, Any]:
        fields, values = self._sections[section], {}
        for name, value in content.items():
            if name in fields:
                values[name] = self._from_here(value) if _is_path(fields[name].annotation) else value
            else:
                self._not_known(name, value, section)
        return values

    def _not_known(self, name: str, value: Any, section: str = TOP) -> None:
        homes = [known for known, fields in self._sections.items() if name in fields]
        if homes:
            where = f"belongs to [{homes[0]}]" if homes[0] else "belongs above the first section"
            self.unknown.append(f"{self.path}: {_written(name, section)} {where}")
        elif section == TOP and isinstance(value, dict):
            hint = suggestion(f"[{name}]", {f"[{known}]" for known in self._sections if known})
            self.unknown.append(f"{self.path}: [{name}] is not a section{hint}")
        else:
            hint = suggestion(name, self._sections[section]) or suggestion(name, _all_names(self._sections))
            self.unknown.append(f"{self.path}: {_written(name, section)} is not a setting{hint}")

    def _from_here(self, value: Any) -> Any:
        """A relative path counts from the file's folder, wherever the server is started."""
        if isinstance(value, list):
            return [self._from_here(item) for item in value]
        if self.path is None or not isinstance(value, str) or not value or value.startswith("~"):
            return value
        return str(self.path.parent / value)


def _is_path(annotation: Any) -> bool:
    return annotation is Path or any(_is_path(part) for part in get_args(annotation))


def _written(name: str, section: str) -> str:
    return f"[{section}] {name}" if section else name


def _all_names(sections: Sections) -> set[str]:
    return {name for fields in sections.values() for name in fields}
