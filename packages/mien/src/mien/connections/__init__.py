"""Connections of HTTP clients: how many, how long they may take, how large a request's head may be, and TLS."""
