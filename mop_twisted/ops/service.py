"""The composition root: from a configuration to everything that runs, and to its end.

Read from top to bottom it is the order of things. L{make_gateway} runs before twistd forks away:
it reads files and binds sockets, and makes no thread, no file and no connection. What needs those
comes with C{startService}, in the process that stays. C{stopService} is the drain.

Exit statuses: 1 when it cannot start (said on standard error), or when the log cannot be opened;
by signal 15 (143 in a shell) after SIGTERM, and by signal 2 after an interrupt, as twistd does.
"""

# Twisted's application framework has hardly any annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import atexit
import gc
import os
import socket
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import suppress
from typing import Any, Final, final

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger

from .. import __version__
from ..backends.embedded.log import EmbeddedLog
from ..broker.authority import Authority
from ..broker.broker import Broker
from ..broker.counters import Counters
from ..broker.shown import ShownListener
from ..broker.view import View
from ..errors import ConfigError, MopError
from ..limits import Limits
from ..net.gate import Gate
from ..net.listeners import BoundListener, Listener, parse_listener, raise_file_limit
from ..net.protocol import MqttFactory
from . import rules, signals
from .access import Access
from .admin import AdminPages
from .check import check, credentials, tls_files
from .config import Configuration, default_data, load
from .lag import LagProbe
from .logs import LogWriter, destination
from .observed import Observed
from .readiness import Readiness, is_true
from .systemd import Notifier
from .systree import SystemTree
from .web import http_factory

DRAIN_SECONDS: Final = 10.0
"""How long clients may take to read what is left for them when we stop."""

SWITCH_INTERVAL: Final = 0.0005
"""Seconds after which a thread has to let another have the interpreter: at Python's own 5 ms the
log's writer waits behind a busy reactor for a multiple of what it works (design, section 2)."""

GC_THRESHOLDS: Final = (50_000, 50, 100)
"""Objects of a million subscriptions live long and hold no cycles: look at the young ones
seldom and at the old ones hardly ever."""


@final
class _AdminListener:
    """The admin server's socket, bound before the fork like the others."""

    def __init__(self, host: str, port: int, token: str | None) -> None:
        self.access = Access(host, token)
        self._listener = Listener("tcp", host, port)
        self._socket: socket.socket | None = None
        self._port: Any = None

    @classmethod
    def of(cls, configuration: Configuration) -> _AdminListener | None:
        """That of a configuration, C{None} when it is off."""
        at = rules.admin_place(configuration)
        return None if at is None else cls(*at, rules.admin_token(configuration))

    def bind(self, where: str) -> None:
        """@raise ConfigError: the port is busy or must not be bound by this user."""
        host, port = self._listener.host, self._listener.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(128)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            raise ConfigError(f"{where}: {host}:{port}", error.strerror or str(error)) from None
        self._socket = listening

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def start(self, reactor: Any, factory: Any) -> None:
        """Answer."""
        listening = self._socket
        assert listening is not None
        self._port = reactor.adoptStreamPort(listening.fileno(), listening.family, factory)

    def stop(self) -> Any:
        """Answer no more."""
        if self._socket is not None:
            self._socket.close()
        port, self._port = self._port, None
        return None if port is None else port.stopListening()


@final
class Gateway(MultiService):
    """One node."""

    logger = Logger()

    def __init__(
        self,
        configuration: Configuration,
        reactor: Any,
        twistd: Any = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.configuration = configuration
        self._reactor = reactor
        self._twistd = twistd
        self._environment = environment if environment is not None else {}
        self._limits = limits = configuration.limits
        settings = configuration.settings
        self._folder = settings.data or default_data(self._environment)

        self._writer: LogWriter | None = None
        self.notifier = Notifier(self._environment, reactor)
        self.credentials = credentials(configuration)
        self._authority = Authority.from_files(
            settings.passwords, settings.acl, rules.anonymous_allowed(settings), reactor
        )
        self.counters = Counters()
        self.observed = Observed(time.monotonic)
        self.readiness = Readiness()
        self.log = EmbeddedLog(
            self._folder, reactor, limits, settings.retention, time.time, time.monotonic
        )
        self.gate = Gate(reactor, time.monotonic, limits, self.counters)
        self.broker = Broker(
            self.log,
            self.log,
            self._authority,
            limits,
            self.counters,
            time.monotonic,
            time.time,
            lambda function: reactor.callLater(0, function),
            self.gate.flusher.schedule,
        )
        self.listeners = [
            BoundListener(parse_listener(text, configuration.source("listen")))
            for text in rules.listeners(settings)
        ]
        self._lag = LagProbe(reactor)
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = reactor
        self._system_tree = SystemTree(
            self.counters,
            self.observed,
            self.broker.publish_system,
            reactor,
            settings.sys_interval,
        )
        self._admin = _AdminListener.of(configuration)
        self._undo_hangup: Any = None
        self._opened = False
        self._started = False
        self._observe()

    def _observe(self) -> None:
        observed = self.observed
        observed.log_healthy = lambda: bool(self.log.healthy)
        observed.log_congested = lambda: bool(self.log.congested)
        observed.reactor_lag = lambda: self._lag.latest
        observed.reactor_lag_maximum = lambda: self._lag.maximum
        observed.certificates = self._certificates
        observed.queued_bytes = lambda: self.broker.queued_bytes
        observed.log_queue_bytes = lambda: self.log.queue_bytes
        observed.backlog_messages = lambda: sum(
            cursor.backlog_messages for cursor in self.log.cursors.values()
        )
        observed.backlog_bytes = lambda: sum(
            cursor.backlog_bytes for cursor in self.log.cursors.values()
        )
        self.log.writer.committed = self._count_commit
        self.readiness.add(
            "started", is_true(lambda: self._started and not self.broker.draining, "not running")
        )
        self.readiness.add("log", is_true(observed.log_healthy, "appends fail"))

    def _count_commit(self, jobs: int, seconds: float) -> None:
        self.counters.store_commit_seconds.observe(seconds)
        self.counters.store_batch_size.observe(float(jobs))

    def _certificates(self) -> dict[str, float]:
        if self.credentials is None:
            return {}
        return {
            listener.specification: self.credentials.not_after
            for listener in self.listeners
            if listener.listener.encrypted
        }

    def _shown_listeners(self) -> list[ShownListener]:
        connected: dict[str, int] = {}
        for connection in self.gate.flusher.protocols:
            name = connection.peer.listener
            connected[name] = connected.get(name, 0) + 1
        expiries = self._certificates()
        return [
            ShownListener(
                listener.specification,
                listener.listener.kind,
                listener.address,
                connected.get(listener.specification, 0),
                expiries.get(listener.specification),
            )
            for listener in self.listeners
        ]

    # Before the fork

    def bind(self) -> None:
        """Bind every port, or none.

        @raise ConfigError: one is busy, or must not be bound by this user.
        """
        bound = []
        try:
            for listener in self.listeners:
                bound.append(listener)
                listener.bind()
            if self._admin is not None:
                self._admin.bind(self.configuration.source("admin"))
        except ConfigError:
            for listener in bound:
                listener.stop()
            if self._admin is not None:
                self._admin.stop()
            raise

    def setServiceParent(self, parent: Any) -> None:
        """twistd gives us its application, before it begins to log: the moment to say how."""
        super().setServiceParent(parent)
        stream = destination(self._twistd)
        if stream is not None and hasattr(parent, "setComponent"):
            settings = self.configuration.settings
            self._writer = LogWriter(stream, settings.log_format, settings.log_level)
            parent.setComponent(ILogObserver, self._writer)

    # In the process that stays

    def startService(self) -> None:
        """Open the log, then let clients in. Failing stops the reactor, with exit status 1."""
        for warning in self.configuration.warnings:
            self.logger.warn("{warning}", event="configuration", warning=warning)
        sys.setswitchinterval(SWITCH_INTERVAL)
        files = raise_file_limit()
        self.logger.info(
            "mop_twisted {version} begins, with up to {files} open files",
            event="starting",
            version=__version__,
            files=files,
        )
        super().startService()
        self._undo_hangup = signals.on_hangup(self._reactor, self.reload)
        self.notifier.startService()
        # Not before the reactor runs: a signal that comes as soon as we are ready is its own.
        self._reactor.callWhenRunning(lambda: self._start().addErrback(self._failed))

    @inlineCallbacks
    def _start(self) -> Generator[Deferred[Any], Any, None]:
        if not self.running:
            return  # stopped meanwhile
        yield self.broker.start()
        self._opened = True
        if not self.running:
            return
        self.gate.open(self.broker)
        self._lag.start()
        self._ticks.start(1.0, now=False)
        self._system_tree.start()
        origins = self.configuration.settings.origins
        for listener in self.listeners:
            factory = MqttFactory(self.gate, listener.specification)
            listener.start(factory, self.credentials, frozenset(origins) if origins else None)
        if self._admin is not None:
            view = View(self.broker, self.log, self.log, time.monotonic)
            view.listeners = self._shown_listeners
            pages = AdminPages(
                view, self.counters, self.observed, self.readiness, self._admin.access
            )
            self._admin.start(self._reactor, http_factory(pages.answer, self._reactor))
        # What there is now stays: collections need not walk it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self._started = True
        self.notifier.ready()
        self._say_ready()

    def _tick(self) -> None:
        """Once a second; what goes wrong in one second must not end those that follow."""
        try:
            self.broker.tick()
        except Exception:
            self.logger.failure("a tick failed", event="tick_failed")

    def _say_ready(self) -> None:
        places = [listener.address for listener in self.listeners]
        if self._admin is not None:
            places.append(f"admin:{self._admin.url}")
        line = " ".join(["ready", *places, f"log:embedded:{self._folder}"])
        self.logger.info("{line}", event="ready", line=line)
        if self._twistd is None or self._twistd.get("nodaemon"):
            # twistd has put its log in the place of sys.stderr.
            # Whoever started us may have closed it: no reason to stop.
            with suppress(OSError, ValueError):
                print(line, file=sys.__stderr__, flush=True)

    def _failed(self, failure: Any) -> None:
        if failure.check(MopError):
            why = str(failure.value)
            self.logger.critical("cannot start: {why}", event="failed", why=why)
        else:
            why = f"{failure.type.__name__}: {failure.getErrorMessage()}"
            self.logger.failure("cannot start", failure, event="failed")
        print(f"mop: cannot start: {why}", file=sys.__stderr__, flush=True)
        # twistd has no way to be told an exit status once its reactor runs.
        atexit.register(_leave_with_1)
        self._reactor.callLater(0, self._reactor.stop)

    # While it runs

    def reload(self) -> None:
        """Read the configuration again, and what it names; nothing changes unless all of it is
        right. [design 3.10] Keys that need a restart are named in the log."""
        if not self._started:
            # While the log is loaded, or in the drain: the files are read, or not needed.
            return
        self.notifier.reloading()
        try:
            self._reload()
        except ConfigError as error:
            self.logger.error(
                "reload refused, nothing was changed: {why}", event="reload_failed", why=str(error)
            )
        except Exception:
            self.logger.failure("reload failed", event="reload_failed")
        self.notifier.ready()

    def _reload(self) -> None:
        old = self.configuration
        new = load(old.file, self._environment, old.command_line)
        check(new)
        # Everything that may fail comes before the first change.
        authority = Authority.from_files(
            new.settings.passwords,
            new.settings.acl,
            rules.anonymous_allowed(new.settings),
            self._reactor,
        )
        files = tls_files(new)
        if files is not None and self.credentials is not None:
            self.credentials.reload(files)
        self._authority.replace(authority)
        limits: Limits = new.limits
        self.broker.reload(limits)
        self._system_tree.reload(new.settings.sys_interval)
        if self._writer is not None:
            self._writer.level = new.settings.log_level
        for key in rules.need_restart(old.settings, new.settings):
            self.logger.warn(
                "{key} has changed: it takes a restart", event="reload_needs_restart", key=key
            )
        new.limits = self._limits
        self.configuration = new
        self.logger.info("reloaded", event="reloaded")

    # The end

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[Any], Any, None]:
        """Drain: accept nobody, tell everybody, send what is left, close the log."""
        self.notifier.stopping()
        self._started = False
        for listener in self.listeners:
            yield listener.stop()
        self._system_tree.stop()
        self.broker.shut_down()
        yield self.gate.close(DRAIN_SECONDS)
        if self._ticks.running:
            self._ticks.stop()
        self._lag.stop()
        if self._opened:
            yield self.log.stop()
        if self._admin is not None:
            # Last, so that whoever asks during the drain learns that we are not ready.
            yield self._admin.stop()
        yield super().stopService()
        if self._undo_hangup is not None:
            # Not before: a SIGHUP during the drain must not be the end.
            self._undo_hangup()
            self._undo_hangup = None
        self.notifier.stopService()
        self.logger.info("stopped", event="stopped")


def make_gateway(
    configuration: Configuration,
    reactor: Any,
    twistd: Any = None,
    environment: Mapping[str, str] | None = None,
) -> Gateway:
    """A gateway with its ports bound, and nothing else made. C{twistd} is twistd's own options.

    @raise ConfigError: a file is wrong or a port cannot be had.
    """
    gateway = Gateway(configuration, reactor, twistd, environment)
    gateway.bind()
    return gateway


def _leave_with_1() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
