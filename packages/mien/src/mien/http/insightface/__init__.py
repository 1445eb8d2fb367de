"""The InsightFace-REST door: `POST /extract` and what belongs to it."""
