"""Wills: when they fire, and when they must not.

A will fires when its connection ends without a DISCONNECT that says otherwise: at once, or
after its delay, or when the session ends if that is sooner. It is durable before the CONNACK,
so that a kill of the gateway counts as the end of the connection.

MQTT 5.0 sections 3.1.2.5, 3.1.3.2.2 and 3.14.4; design 3.11.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final, final

from ..model import Origin
from .inbound import Inbound
from .session import Session

RETRY_SECONDS: Final = 1.0


@final
class Wills:
    """Delays wills and fires them."""

    def __init__(self, inbound: Inbound, seconds: Callable[[], float]) -> None:
        self._inbound = inbound
        self._seconds = seconds
        self._due: list[tuple[float, int, Session]] = []
        self._count = 0
        self.settled: Callable[[Session, Origin | None], None] = lambda session, origin: None
        """Told when a session's will has been published and its record can forget it."""

    def connection_ended(self, session: Session, now: float) -> None:
        """The connection of a session that goes on is over: delay its will, or fire it.
        [MQTT5-3.1.2-8]"""
        will = session.will
        if will is None:
            return
        delay = min(will.delay, session.expiry)
        if delay:
            self.postpone(session, now + delay)
        else:
            self.fire(session)

    def postpone(self, session: Session, when: float) -> None:
        """Fire the will at C{when}, unless L{cancel} comes first."""
        session.will_at = when
        # One entry a session: an earlier one finds out when it comes up.
        if not 0.0 < session.will_noted <= when:
            session.will_noted = when
            self._count += 1
            heappush(self._due, (when, self._count, session))

    def cancel(self, session: Session) -> None:
        """The session was resumed in time. [MQTT5-3.1.3-9]"""
        session.will_at = 0.0

    def fire(self, session: Session) -> None:
        """Publish it now. [MQTT5-3.1.2-10] [MQTT311-3.1.2-8] [MQTT311-3.1.2-10]"""
        will = session.will
        session.will = None
        session.will_at = 0.0
        # [MQTT311-3.1.2-12]
        if will is None:
            return

        def failed() -> None:
            # The log is unwell: again, until it takes it.
            if session.will is None:
                session.will = will
                self.postpone(session, self._seconds() + RETRY_SECONDS)

        self._inbound.publish_will(
            session, will, lambda origin: self.settled(session, origin), failed
        )

    def tick(self, now: float) -> None:
        """Fire what is due."""
        due = self._due
        while due and due[0][0] <= now:
            when, _, session = heappop(due)
            if session.will_noted != when:
                continue
            session.will_noted = 0.0
            if session.will_at and session.will_at <= now:
                self.fire(session)
            elif session.will_at:
                self.postpone(session, session.will_at)
