"""The only room that sees a transport or the reactor."""
