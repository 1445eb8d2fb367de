"""The Lumen API: `POST /v1/infer`, one endpoint for every service, and the nodes behind it."""
