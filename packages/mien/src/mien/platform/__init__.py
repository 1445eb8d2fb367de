"""Tasks, apps, workers and files of one server, put together."""
