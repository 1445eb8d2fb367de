"""Persistent state: the SQL database (schema, migrations, group commit), files, and signed URLs."""
