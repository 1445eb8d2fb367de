"""The Lumen node protocol over gRPC: being a node, and using nodes on other machines."""
