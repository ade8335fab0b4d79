"""C{mop check} and C{twistd mop --check}: whether a configuration is right.

Reads every file that it names, as starting does, and makes nothing: no folder, no socket. The
exit status is 0, or 1 with file, key and reason on standard error.
"""

from __future__ import annotations

from ..errors import ConfigError
from ..net.tls import Credentials, Files
from . import rules
from .config import Configuration


def check(configuration: Configuration) -> None:
    """Hold a configuration against the rules, and parse what it names. Warnings are added to
    C{configuration.warnings}.

    @raise ConfigError: it is wrong; nothing was made.
    """
    configuration.warnings.extend(rules.check(configuration))
    rules.admin_token(configuration)
    credentials(configuration)
    access_files(configuration)


def tls_files(configuration: Configuration) -> Files | None:
    """Where the node's credentials are; C{None} without a certificate."""
    settings = configuration.settings
    if settings.certificate is None:
        return None
    return Files(
        settings.certificate,
        settings.key or settings.certificate,
        settings.client_ca or "",
        settings.crl or "",
        settings.certificate_name,
    )


def credentials(configuration: Configuration) -> Credentials | None:
    """The node's certificate and key, loaded; C{None} without a certificate.

    @raise ConfigError: a file is missing or not what it should be.
    """
    files = tls_files(configuration)
    if files is None:
        return None
    try:
        return Credentials(files)
    except ConfigError as error:
        raise _of_key(configuration, error) from None


def access_files(configuration: Configuration) -> None:
    """Parse password file and ACL.

    @raise ConfigError: one is missing, or a line of it is wrong.
    """
    from twisted.internet import reactor

    from ..broker.authority import Authority

    settings = configuration.settings
    try:
        authority = Authority.from_files(
            settings.passwords, settings.acl, lambda listener: False, reactor
        )
    except ConfigError as error:
        raise _of_key(configuration, error) from None
    configuration.warnings.extend(authority.warnings)


def _of_key(configuration: Configuration, error: ConfigError) -> ConfigError:
    """The same error, that also says which key named the file."""
    settings = configuration.settings
    for key in ("certificate", "key", "client_ca", "crl", "passwords", "acl"):
        path = getattr(settings, key)
        if path is not None and error.where.startswith(path):
            return ConfigError(f"{configuration.source(key)}: {error.where}", error.why)
    return error


def run(arguments: list[str]) -> int:
    """C{mop check}: the options of C{twistd mop}; returns the exit status."""
    from .tap import Options

    options = Options()
    options.synopsis = "usage: mop check [options of twistd mop]"
    options.longdesc = "Checks a configuration as twistd mop --check does, and starts nothing."
    try:
        options.parseOptions(["--check", *arguments])
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 0
    return 0
