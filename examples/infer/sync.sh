#!/usr/bin/env bash
# One picture, one JSON answer. Needs curl and a picture called image.jpg in the working folder.
curl -X POST http://localhost:8080/v1/infer \
  -H "Content-Type: application/json" \
  -d '{
    "service": "face_detection",
    "task": "face_detector_v1",
    "payload": "'"$(base64 -w0 image.jpg)"'",
    "correlation_id": "req-1",
    "metadata": {"detection_confidence_threshold":"0.5"}
  }'
