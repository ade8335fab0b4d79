"""Every configuration key: its type, its default, what it means, whether a reload takes it.

One table for everything that speaks of keys: reading the file, the environment and the command
line (C{config}), C{twistd mop --help} (C{tap}) and C{docs/reference/options.md} (C{options_page}).
The limits of L{mop_twisted.limits.Limits} are keys as well, beside these.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from ..limits import Limits
from .units import Duration, Secret, Size

PATH: Final[dict[str, Any]] = {"path": True}


class Retention(Struct, frozen=True, forbid_unknown_fields=True):
    """Keep the messages that match C{filter}, for C{age} seconds, up to C{bytes} of them in
    all; neither means for ever."""

    filter: str
    age: Duration | None = None
    bytes: Size | None = None


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole configuration, checked key by key. Paths are absolute."""

    listen: Annotated[
        tuple[str, ...],
        Meta(
            title="tcp:127.0.0.1:1883, ws:127.0.0.1:8083, with a certificate tls:127.0.0.1:8883",
            description="Where clients connect: `tcp:[HOST:]PORT`, `tls:…`, `ws:…`, `wss:…` "
            "(an IPv6 host in brackets: `tcp:[::1]:1883`), `unix:PATH`. Without HOST it is "
            "127.0.0.1; every address is `tcp:0.0.0.0:1883`, for IPv6 `tcp:[::]:1883`.",
        ),
    ] = ()
    certificate: Annotated[
        str | None,
        Meta(
            description="PEM file with the certificate (and its chain) that tls and wss "
            "listeners show.",
            extra=PATH,
        ),
    ] = None
    key: Annotated[
        str | None,
        Meta(
            title="the file of `certificate`",
            description="PEM file with the private key of `certificate`.",
            extra=PATH,
        ),
    ] = None
    client_ca: Annotated[
        str | None,
        Meta(
            description="PEM file with certificate authorities: clients of tls and wss "
            "listeners must then show a certificate of one of them.",
            extra=PATH,
        ),
    ] = None
    crl: Annotated[
        str | None,
        Meta(
            description="PEM file with the revocation lists of `client_ca`.",
            extra=PATH,
        ),
    ] = None
    certificate_name: Annotated[
        Literal["cn", "san-dns", "san-email", "san-uri"],
        Meta(
            description="Which name in a client's certificate is its user name: `cn`, the common "
            "name, or the one subject alternative name of a kind: `san-dns`, `san-email`, "
            "`san-uri`.",
        ),
    ] = "cn"
    data: Annotated[
        str | None,
        Meta(
            title="`mop-data` under `$XDG_STATE_HOME` or `~/.local/state`",
            description="Folder of the embedded log, made with mode 0700.",
            extra=PATH,
        ),
    ] = None
    pulsar: Annotated[
        str | None,
        Meta(
            title="none: the embedded log is used",
            description="`pulsar://HOST[,HOST]` or `pulsar+ssl://…`: Pulsar is the log.",
        ),
    ] = None
    pulsar_admin: Annotated[
        str | None,
        Meta(
            title="http, port 8080, on the first host of `pulsar`",
            description="URL of Pulsar's admin REST interface.",
        ),
    ] = None
    admin: Annotated[
        str,
        Meta(
            description="`[HOST:]PORT` of the admin HTTP server (dashboard, `/livez`, `/readyz`, "
            "`/metrics`, `/api/v1/…`), or `off`.",
        ),
    ] = "127.0.0.1:5680"
    admin_token: Annotated[
        Secret | None,
        Meta(
            description="What the admin server asks for as bearer token or password; needed "
            "when it listens beyond loopback.",
        ),
    ] = None
    admin_token_file: Annotated[
        str | None,
        Meta(description="The same, read from the first line of a file.", extra=PATH),
    ] = None
    passwords: Annotated[
        str | None,
        Meta(
            description="Password file in mosquitto's format; `mop passwd` writes it.",
            extra=PATH,
        ),
    ] = None
    acl: Annotated[
        str | None,
        Meta(
            title="none: everything is allowed to who is let in",
            description="Access control file in mosquitto's format. An empty one denies "
            "everything.",
            extra=PATH,
        ),
    ] = None
    allow_anonymous: Annotated[
        bool | None,
        Meta(
            title="on loopback and unix listeners only, and only without `passwords`",
            description="Whether clients may connect without proving who they are.",
        ),
    ] = None
    workers: Annotated[
        int,
        Meta(description="Gateways on this machine that share one port (Pulsar only).", ge=1),
    ] = 1
    retention: Annotated[
        tuple[Retention, ...],
        Meta(
            title="none: no history",
            description="What history the embedded log keeps: tables with `filter`, `age`, "
            "`bytes`. In the environment `FILTER=AGE`, `FILTER=BYTES`, `FILTER=AGE/BYTES` or "
            "`FILTER`, as in `sensors/#=7d,alarms/#=1GiB`.",
        ),
    ] = ()
    sys_interval: Annotated[
        Duration,
        Meta(description="How often `$SYS/broker/…` is published; 0: never."),
    ] = Duration(10)
    origins: Annotated[
        tuple[str, ...],
        Meta(
            title="any",
            description="Origins of web pages that may open a WebSocket, as `https://example.org`.",
        ),
    ] = ()
    log_format: Annotated[
        Literal["text", "json"],
        Meta(description="One line of text or one JSON object an event."),
    ] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warn", "error", "critical"],
        Meta(description="Events below this are not written."),
    ] = "info"


COMMAND_LINE: Final = {
    "listen": "l",
    "certificate": None,
    "key": None,
    "client_ca": None,
    "data": "d",
    "pulsar": "p",
    "pulsar_admin": None,
    "admin": None,
    "passwords": None,
    "acl": None,
    "allow_anonymous": None,
    "workers": None,
}
"""Keys that are options of C{twistd mop} too, each with its short form."""

RELOADED_KEYS: Final = frozenset(
    {
        "acl",
        "allow_anonymous",
        "certificate",
        "certificate_name",
        "client_ca",
        "crl",
        "key",
        "log_level",
        "passwords",
        "sys_interval",
    }
)
"""Keys that SIGHUP takes over."""

LIMITS: Final[tuple[str, ...]] = tuple(Limits.__slots__)
"""Keys that are limits; a reload takes all of them."""

_BYTES: Final = ("maximum_packet_size", "maximum_packet_size_before_connect")
_SECONDS: Final = ("keep_alive_maximum", "session_expiry_maximum")

_RANGES: Final[dict[str, tuple[float, int]]] = {
    "connect_timeout": (0.001, 86_400),
    # MQTT 5.0 2.1.4: where the Remaining Length ends.
    "maximum_packet_size": (16, 268_435_460),
    "maximum_packet_size_before_connect": (16, 268_435_460),
    "receive_maximum": (1, 65_535),
    "window_3x": (1, 65_535),
    "topic_alias_maximum": (0, 65_535),
    "keep_alive_maximum": (0, 65_535),
    "session_expiry_maximum": (0, 0xFFFFFFFF),
    "topic_levels": (1, 65_535),
}
_MAY_BE_NOTHING: Final = frozenset(
    {"retained_messages", "retained_bytes", "user_properties", "sessions"}
)


def limit_type(name: str) -> type[Size] | type[Duration] | type[int]:
    """How a limit is written: bytes, seconds or a plain number."""
    if name.endswith("_bytes") or name in _BYTES:
        return Size
    if name in _SECONDS or isinstance(getattr(Limits(), name), float):
        return Duration
    return int


def limit_range(name: str) -> tuple[float, int]:
    """The least and the greatest value of a limit."""
    found = _RANGES.get(name)
    return found or (0 if name in _MAY_BE_NOTHING else 1, 2**63 - 1)
