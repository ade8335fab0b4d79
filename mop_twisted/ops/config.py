"""From a TOML file, the environment and the command line to one checked configuration.

Later ones win: defaults, file, environment (C{MOP_<KEY>}), command line. Each value is checked
where it stands, so that an error names the file (or variable, or option), the key and the reason.
Paths in the file are meant from the file's folder, others from the working directory.

Opens the configuration file and nothing else; that what it names can be read is for C{check}.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import typing
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from ..errors import ConfigError
from ..limits import Limits
from .settings import LIMITS, Settings, limit_range, limit_type
from .units import Duration, Secret, Size, duration, size

NOT_CONFIGURATION: Final = frozenset(
    {
        "MOP_VENV",
        "MOP_REQUIRE_PULSAR",
        "MOP_PULSAR_DIR",
        "MOP_PULSAR_PORT",
        "MOP_PULSAR_HTTP_PORT",
        "MOP_FAILPOINT",
    }
)
"""Names in the environment that are ours and no keys: the scripts' and the tests'."""

KEYS: Final[tuple[str, ...]] = (*Settings.__struct_fields__, *LIMITS)

_TYPES: Final[dict[str, Any]] = {
    **typing.get_type_hints(Settings, include_extras=True),
    **{name: limit_type(name) for name in LIMITS},
}

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


class Configuration:
    """What was asked for, and where each key was said.

    C{warnings} are for whoever has a log: they hinder nothing.
    """

    __slots__ = ("command_line", "file", "limits", "settings", "warnings", "where")

    def __init__(
        self,
        settings: Settings,
        limits: Limits,
        file: str | None,
        where: dict[str, str],
        warnings: list[str],
        command_line: Mapping[str, Any],
    ) -> None:
        self.settings = settings
        self.limits = limits
        self.file = file
        self.where = where
        self.warnings = warnings
        self.command_line = command_line
        """As it was given: a reload needs it again."""

    def source(self, key: str) -> str:
        """Where C{key} was said, for an error: C{mop.toml: listen}, C{--listen}, …"""
        return self.where.get(key, key)


def load(
    file: str | None,
    environment: Mapping[str, str],
    command_line: Mapping[str, Any],
) -> Configuration:
    """Read everything. C{command_line} holds the keys that were given, with text or typed
    values; C{None} and empty lists count as not given.

    @raise ConfigError: something is wrong; nothing was changed.
    """
    if file is None and environment.get("MOP_CONFIG"):
        file = environment["MOP_CONFIG"]
    values: dict[str, Any] = {}
    where: dict[str, str] = {}
    warnings: list[str] = []
    here = os.getcwd()
    if file is not None:
        file = os.path.abspath(os.path.expanduser(file))
        for key, value in _read(file).items():
            if key not in _TYPES:
                raise ConfigError(f"{file}: {key}", "no such key" + _similar(key))
            where[key] = f"{file}: {key}"
            values[key] = _convert(key, value, where[key], os.path.dirname(file))
    for name in sorted(environment):
        if not name.startswith("MOP_") or name in NOT_CONFIGURATION or name == "MOP_CONFIG":
            continue
        key = name[4:].lower()
        if key not in _TYPES:
            warnings.append(f"{name} in the environment is no configuration key" + _similar(key))
            continue
        where[key] = f"environment: {name}"
        text = _from_text(key, environment[name], where[key])
        values[key] = _convert(key, text, where[key], here)
    for key, value in command_line.items():
        if value is None or value == []:
            continue
        where[key] = "--" + key.replace("_", "-")
        if isinstance(value, str):
            value = _from_text(key, value, where[key], split=False)
        values[key] = _convert(key, value, where[key], here)
    limits = Limits()
    for name in LIMITS:
        if name in values:
            setattr(limits, name, _within(name, values.pop(name), where[name]))
    return Configuration(Settings(**values), limits, file, where, warnings, command_line)


def _read(file: str) -> dict[str, Any]:
    try:
        with open(file, "rb") as opened:
            return tomllib.load(opened)
    except OSError as error:
        raise ConfigError(file, f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(file, f"is no TOML: {error}") from None


def _similar(key: str) -> str:
    close = difflib.get_close_matches(key.replace("-", "_").lower(), KEYS, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def _plain(key: str) -> Any:
    """The type of a key without its description."""
    found = _TYPES[key]
    return typing.get_args(found)[0] if typing.get_origin(found) is typing.Annotated else found


def _is_list(key: str) -> bool:
    return typing.get_origin(_plain(key)) is tuple


def _from_text(key: str, text: str, where: str, split: bool = True) -> Any:
    """What C{text} means where everything is text: the environment and the command line."""
    kind = _plain(key)
    if _is_list(key):
        items = [item.strip() for item in text.split(",") if item.strip()] if split else [text]
        return [_retention(item, where) for item in items] if key == "retention" else items
    if kind == bool | None:
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise ConfigError(where, f"expected true or false, not {text!r}")
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(where, f"expected a number, not {text!r}") from None
    return text


def _retention(item: str, where: str) -> dict[str, Any]:
    """C{FILTER[=AGE][/BYTES]}: the parts behind C{=} are told apart by their units."""
    topic_filter, _, amounts = item.rpartition("=")
    if not topic_filter:
        return {"filter": item}
    table: dict[str, Any] = {"filter": topic_filter}
    for amount in amounts.split("/"):
        table["bytes" if amount.strip().lower().endswith("b") else "age"] = amount
    return table


def _convert(key: str, value: Any, where: str, folder: str) -> Any:
    try:
        converted = msgspec.convert(value, _TYPES[key], dec_hook=_custom)
    except msgspec.ValidationError as error:
        choices = typing.get_args(_plain(key)) if typing.get_origin(_plain(key)) is Literal else ()
        reason = f"expected {', '.join(choices)}, not {value!r}" if choices else _reason(error)
        raise ConfigError(where, reason) from None
    if isinstance(converted, str) and _is_path(key):
        if not converted:
            raise ConfigError(where, "is empty")
        return os.path.join(folder, os.path.expanduser(converted))
    return converted


def _custom(kind: type, value: Any) -> Any:
    if kind is Size:
        return size(value)
    if kind is Duration:
        return duration(value)
    if kind is Secret and isinstance(value, str) and value:
        return Secret(value)
    raise ValueError("expected a text that is not empty")


def _reason(error: msgspec.ValidationError) -> str:
    """msgspec's reason, with the place in our words instead of JSON's."""
    text, _, place = str(error).partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    text = text[:1].lower() + text[1:]
    return f"{text} (at {place})" if place else text


def _is_path(key: str) -> bool:
    for meta in getattr(_TYPES[key], "__metadata__", ()):
        if meta.extra and meta.extra.get("path"):
            return True
    return False


def _within(name: str, value: Any, where: str) -> Any:
    least, greatest = limit_range(name)
    if not least <= value <= greatest:
        raise ConfigError(where, f"{value:g} is not between {least} and {greatest}")
    if isinstance(getattr(Limits(), name), float):
        return float(value)
    if value != int(value):
        raise ConfigError(where, f"{value:g} is no whole number")
    return int(value)


def default_data(environment: Mapping[str, str]) -> str:
    """The folder of the log when none is given. [XDG Base Directory Specification]"""
    state = environment.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # "must be absolute; else ignore it"
        state = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "mop-data")
