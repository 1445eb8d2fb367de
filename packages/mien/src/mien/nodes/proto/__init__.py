"""The protocol's messages: `inference.proto`, and what `make proto` generates from it."""
