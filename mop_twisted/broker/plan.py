"""What becomes of a message on one topic: to whom it goes, and who keeps it.

A plan is made once for a topic from the subscriptions that match, and lives in the router's
cache until one of them changes. The authorisation verdict is inside it: who may not receive
the topic is not in the plan. MQTT 5.0 sections 3.3.4, 4.7 and 4.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from ..interfaces import IAuthorizer
from ..model import Audience, Subscription
from .session import Session

if TYPE_CHECKING:
    from .group import Group


@final
class Target:
    """One session that gets a message: one copy, whatever number of its filters match, with
    the highest QoS and all subscription identifiers [MQTT5-3.3.4-2] [MQTT5-3.3.4-3]."""

    __slots__ = (
        "identifiers",
        "kept",
        "no_local",
        "plain",
        "qos",
        "retain_as_published",
        "session",
    )

    def __init__(self, subscription: Subscription) -> None:
        self.session: Session = subscription.session
        self.qos = subscription.qos
        self.no_local = subscription.no_local
        self.retain_as_published = subscription.retain_as_published
        self.identifiers: tuple[int, ...] = (
            (subscription.identifier,) if subscription.identifier else ()
        )
        self.kept = False
        """QoS 1 and 2 come by the session's cursor."""
        self.plain = not (self.no_local or self.identifiers)
        """Nothing about it differs from what others get."""

    def merge(self, subscription: Subscription) -> None:
        """The same session by another filter. [MQTT311-3.3.5-1]"""
        self.qos = max(self.qos, subscription.qos)
        # A message of its own is kept from it only where every matching filter says so.
        self.no_local = self.no_local and subscription.no_local
        self.retain_as_published = self.retain_as_published or subscription.retain_as_published
        if subscription.identifier and subscription.identifier not in self.identifiers:
            self.identifiers += (subscription.identifier,)
        self.plain = not (self.no_local or self.identifiers)


@final
class Plan:
    """To whom messages on a topic go."""

    __slots__ = ("_by_session", "audience", "excluded", "groups", "history", "targets", "valid")

    def __init__(self) -> None:
        self.valid = True
        """False: the topic name itself is over a limit of ours."""
        self.targets: list[Target] = []
        self.groups: list[Group] = []
        self.audience: Audience | None = None
        """The cursors that get QoS 1 and 2."""
        self.excluded: list[Session] = []
        """Sessions over their limit, for which QoS 1 and 2 are discarded."""
        self.history = False
        """Retention keeps it, or the log keeps everything."""
        self._by_session: dict[Session, Target] | None = None

    @property
    def matches(self) -> bool:
        """Whether anybody gets it, now or later. [MQTT 5.0, 3.4.2.1: reason code 0x10]"""
        return bool(self.targets or self.groups or self.history)

    def target_of(self, session: Session) -> Target | None:
        """What a session gets of this topic, if anything."""
        by_session = self._by_session
        if by_session is None:
            by_session = self._by_session = {target.session: target for target in self.targets}
        return by_session.get(session)


def make_plan(
    topic: str, subscriptions: list[Subscription], authorizer: IAuthorizer, history: bool
) -> Plan:
    """The plan for C{topic}; C{subscriptions} are all that match it, and only those.
    [MQTT5-3.3.2-3] [MQTT311-3.3.2-3]"""
    plan = Plan()
    plan.history = history
    by_session: dict[Session, Target] = {}
    groups: dict[Group, None] = {}
    everyone = bool(authorizer.open)
    for subscription in subscriptions:
        session: Session = subscription.session
        if not everyone and not authorizer.may_receive(session.identity, topic):
            continue
        if subscription.group:
            group = (
                None if session.groups is None else session.groups.get(subscription.topic_filter)
            )
            if group is not None:
                groups[group] = None
            continue
        target = by_session.get(session)
        if target is None:
            by_session[session] = Target(subscription)
        else:
            target.merge(subscription)
    plan.targets = list(by_session.values())
    plan.groups = list(groups)
    cursors: list[Any] = []
    for target in plan.targets:
        session = target.session
        if target.qos and session.durable:
            if session.full:
                plan.excluded.append(session)
            else:
                target.kept = True
                cursors.append(session.cursor)
    cursors.extend(group.cursor for group in plan.groups if group.cursor is not None)
    if cursors:
        plan.audience = Audience(tuple(cursors))
    return plan
