"""Model manifests (data, not code) and how their files are acquired, converted, verified and cached."""
