"""Who gets in, and who may do what: first cut, everybody and everything but C{$} topics."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from ..codec.packets import Connect
from ..model import Identity
from ..protocol.peer import Peer


class _Open:
    version = 0
    open = True

    def may_publish(self, identity: Identity, topic: str) -> bool:
        return not topic.startswith("$")

    def may_subscribe(self, identity: Identity, topic_filter: str) -> bool:
        return True

    def may_receive(self, identity: Identity, topic: str) -> bool:
        return True


class Authority:
    """First cut."""

    def __init__(self) -> None:
        self.authorizer: Any = _Open()

    @classmethod
    def from_files(cls, *arguments: Any) -> Authority:
        return cls()

    def replace(self, other: Authority) -> None:
        self.authorizer = other.authorizer

    def admit(self, connect: Connect, peer: Peer) -> Deferred[Identity]:
        return succeed(Identity(connect.client_id, connect.user_name, peer.listener))

    def mechanism(self, name: str) -> Any:
        return None
