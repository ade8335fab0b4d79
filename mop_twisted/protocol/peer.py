"""Where a connection comes from, as net found it."""

from __future__ import annotations


class Peer:
    """One per connection, or shared where nothing differs.

    C{listener} is the listener's specification as configured, C{address} the client's IP
    address (or the socket's path), C{certificate_name} the name in the client's verified
    certificate, if it showed one.
    """

    __slots__ = ("address", "certificate_name", "listener")

    def __init__(self, listener: str, address: str, certificate_name: str | None = None) -> None:
        self.listener = listener
        self.address = address
        self.certificate_name = certificate_name
