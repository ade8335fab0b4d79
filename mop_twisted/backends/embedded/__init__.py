"""The embedded durable log: SQLite through apsw."""
