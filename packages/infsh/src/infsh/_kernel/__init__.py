"""The app kernel: runs one app in a process of its own and speaks to its supervisor over a Unix socket."""
