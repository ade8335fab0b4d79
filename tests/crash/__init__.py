"""What survives a gateway that is killed: campaigns under load, and every step of one exchange."""
