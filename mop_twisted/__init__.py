"""MQTT for Apache Pulsar, in Python: a gateway that runs as C{twistd mop}."""

__version__ = "0.1.0"
