"""A net under every change: recorded exchanges of a whole server, replayed against the tree as it is."""
