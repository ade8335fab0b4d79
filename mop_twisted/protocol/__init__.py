"""One connection as a machine without I/O: phases, flights, windows, aliases, deadlines."""
