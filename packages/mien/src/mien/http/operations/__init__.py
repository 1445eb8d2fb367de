"""Routes for operators of the server."""
