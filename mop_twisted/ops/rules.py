"""What of a configuration goes together: which listeners, who may be anonymous where, what this
build can do.

Pure but for looking whether files are there with what rights; nothing is made or bound.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Callable

from ..errors import ConfigError
from ..net.listeners import Listener, parse_listener
from .config import Configuration
from .settings import RELOADED_KEYS, Settings


def is_loopback(host: str) -> bool:
    """Whether C{host} is this machine alone. A name is not looked up: only C{localhost} is."""
    return Listener("tcp", host).is_local


def host_and_port(text: str, where: str) -> tuple[str, int]:
    """The parts of C{[HOST:]PORT}; an IPv6 host is in brackets.

    @raise ConfigError: there are none.
    """
    host, _, digits = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            raise ConfigError(where, f"{host!r} in {text!r} is no IPv6 address") from None
    elif ":" in host:
        raise ConfigError(where, f"an IPv6 host is written in brackets: [{host}]:{digits}")
    if not (digits.isascii() and digits.isdigit() and int(digits) <= 65535):
        raise ConfigError(where, f"{text!r} does not end in a port of 0 to 65535")
    return host, int(digits)


def listeners(settings: Settings) -> tuple[str, ...]:
    """The specifications to listen on: those configured, or the defaults."""
    if settings.listen:
        return settings.listen
    defaults = ("tcp:127.0.0.1:1883", "ws:127.0.0.1:8083")
    return (*defaults, "tls:127.0.0.1:8883") if settings.certificate else defaults


def authenticates(settings: Settings, at: Listener) -> bool:
    """Whether this listener has a way to know who comes."""
    return settings.passwords is not None or (at.encrypted and settings.client_ca is not None)


def anonymous_allowed(settings: Settings) -> Callable[[str], bool]:
    """Tells of a listener's specification whether a client that proves nothing gets in there.

    As C{allow_anonymous} says. Where it says nothing: on listeners that only this machine
    reaches, and only while there is no password file, which is mosquitto's habit.
    """

    def allowed(specification: str) -> bool:
        if settings.allow_anonymous is not None:
            return settings.allow_anonymous
        at = parse_listener(specification)
        return settings.passwords is None and at.is_local

    return allowed


def check(configuration: Configuration) -> list[str]:
    """Hold a configuration against the rules. Returns warnings.

    @raise ConfigError: a rule is broken.
    """
    settings = configuration.settings
    warnings: list[str] = []
    _check_build(configuration)
    _check_listeners(configuration)
    _check_admin(configuration)
    for key, needs in (("key", "certificate"), ("crl", "client_ca"), ("client_ca", "certificate")):
        if getattr(settings, key) is not None and getattr(settings, needs) is None:
            raise ConfigError(configuration.source(key), f"is of no use without {needs}")
    if settings.certificate_name != "cn" and settings.client_ca is None:
        raise ConfigError(
            configuration.source("certificate_name"), "is of no use without client_ca"
        )
    for key in ("passwords", "key", "admin_token_file"):
        path = getattr(settings, key)
        if path is not None:
            _check_rights(configuration.source(key), path, warnings)
    if (
        settings.allow_anonymous is False
        and settings.passwords is None
        and settings.client_ca is None
    ):
        warnings.append(
            f"{configuration.source('allow_anonymous')}: is false, and there are neither "
            "passwords nor a client_ca: nobody gets in"
        )
    return warnings


def _check_build(configuration: Configuration) -> None:
    settings = configuration.settings
    for key in ("pulsar", "pulsar_admin"):
        if getattr(settings, key) is not None:
            raise ConfigError(
                configuration.source(key),
                "this build has only the embedded log; Pulsar as the log comes with a later "
                "release",
            )
    if settings.workers != 1:
        raise ConfigError(
            configuration.source("workers"),
            "this build has only the embedded log, which is one process's: workers must be 1",
        )


def _check_listeners(configuration: Configuration) -> None:
    settings = configuration.settings
    where = configuration.source("listen")
    seen: set[Listener] = set()
    for specification in listeners(settings):
        at = parse_listener(specification, where)
        if at in seen and at.port != 0:
            raise ConfigError(where, f"{specification} is there twice")
        seen.add(at)
        if at.encrypted and settings.certificate is None:
            raise ConfigError(where, f"{specification} needs a certificate")
        if not at.is_local and settings.allow_anonymous is None and not authenticates(settings, at):
            raise ConfigError(
                where,
                f"{specification} can be reached from other machines and nobody would have to "
                "say who they are: give passwords (or a client_ca for tls and wss), or "
                "allow_anonymous if it shall be open to everyone",
            )


def _check_admin(configuration: Configuration) -> None:
    settings = configuration.settings
    at = admin_place(configuration)
    if settings.admin_token is not None and settings.admin_token_file is not None:
        raise ConfigError(
            configuration.source("admin_token_file"), "and admin_token are both given"
        )
    if at is None or is_loopback(at[0]):
        return
    if settings.admin_token is None and settings.admin_token_file is None:
        raise ConfigError(
            configuration.source("admin"),
            f"{settings.admin} can be reached from other machines: give admin_token or "
            "admin_token_file",
        )


def admin_place(configuration: Configuration) -> tuple[str, int] | None:
    """Host and port of the admin server, C{None} when it is off.

    @raise ConfigError: it is neither.
    """
    text = configuration.settings.admin
    if text == "off":
        return None
    where = configuration.source("admin")
    if ":" not in text and text.isdigit():
        # A bare port is the careful one: what can end sessions is not opened by an omission.
        return host_and_port(f"127.0.0.1:{text}", where)
    return host_and_port(text, where)


def admin_token(configuration: Configuration) -> str | None:
    """The admin server's token, read from its file if that is where it is.

    @raise ConfigError: the file cannot be read, or says nothing.
    """
    settings = configuration.settings
    if settings.admin_token_file is None:
        return settings.admin_token
    where = f"{configuration.source('admin_token_file')} ({settings.admin_token_file})"
    try:
        with open(settings.admin_token_file, encoding="utf-8") as opened:
            token = opened.readline().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(where, f"cannot be read: {error}") from None
    if not token:
        raise ConfigError(where, "has an empty first line")
    return token


def _check_rights(where: str, path: str, warnings: list[str]) -> None:
    """A file with secrets that others may read is warned of, as mosquitto does. [H32]"""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # whoever reads it says so
    if mode & stat.S_IROTH:
        warnings.append(f"{where}: {path} may be read by every user of this machine")


def need_restart(old: Settings, new: Settings) -> list[str]:
    """Keys that differ and that a reload does not take over."""
    changed = [
        key
        for key in Settings.__struct_fields__
        if key not in RELOADED_KEYS and getattr(old, key) != getattr(new, key)
    ]
    if (old.certificate is None) != (new.certificate is None):
        # It opens or closes a listener.
        changed.append("certificate")
    return changed
