"""Bytes to packets and back, for MQTT 3.1, 3.1.1 and 5.0. No state, no clock, no I/O."""
