"""All connections of one node: who gets in, who gets what, and what is remembered."""
