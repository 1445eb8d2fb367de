"""Where settings come from: variables by name, a TOML file, and which of them has said what."""
