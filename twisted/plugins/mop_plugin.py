"""Tells C{twistd} that there is a C{mop}. This folder has no C{__init__.py}: it joins the
package C{twisted.plugins} of Twisted itself. Nothing is imported until C{mop} is run."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

mop = ServiceMaker(
    "MQTT gateway for Apache Pulsar, and a broker of its own",
    "mop_twisted.ops.tap",
    "MQTT 3.1, 3.1.1 and 5.0 broker: a gateway to Apache Pulsar, or on its own log.",
    "mop",
)
