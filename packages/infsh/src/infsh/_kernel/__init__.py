"""The app kernel: runs one app in its own process and talks to its supervisor over a Unix socket."""
