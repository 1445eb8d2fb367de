"""The SQL database: tables, migrations, group commit. No other room opens it."""
