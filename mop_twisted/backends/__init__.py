"""The worlds behind C{interfaces.py}: the embedded log, and Pulsar."""
