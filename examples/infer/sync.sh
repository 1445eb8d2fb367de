#!/usr/bin/env bash
# One image, one JSON response. Requires curl and an image named image.jpg in the working directory.
curl -X POST http://localhost:8080/v1/infer \
  -H "Content-Type: application/json" \
  -d @- <<END
{
  "service": "face_detection",
  "task": "face_detector_v1",
  "payload": "$(base64 < image.jpg)",
  "correlation_id": "req-1",
  "metadata": {"detection_confidence_threshold":"0.5"}
}
END
