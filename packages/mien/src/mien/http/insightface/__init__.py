"""The InsightFace-REST API: `POST /extract` and the routes around it."""
