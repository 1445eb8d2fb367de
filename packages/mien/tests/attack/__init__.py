"""An attack on running servers, row by row: what strangers, web pages, callers, nodes and odd environments try."""
