"""The command `infsh`: apps on one machine, without a server."""
