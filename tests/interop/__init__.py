"""Other people's MQTT clients, unmodified, against the real gateway over real sockets."""
