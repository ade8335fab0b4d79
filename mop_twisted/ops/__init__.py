"""How it is run: configuration, composition root, command line, metrics, admin HTTP."""
