"""The Lumen door: `POST /v1/infer`, one endpoint for every service, and the nodes behind it."""
