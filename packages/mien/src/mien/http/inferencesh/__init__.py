"""The inference.sh API: apps run as durable tasks, followed as streams, with files and sessions."""
