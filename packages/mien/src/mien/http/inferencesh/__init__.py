"""The third door: apps run as durable tasks, watched by streams, with files."""
