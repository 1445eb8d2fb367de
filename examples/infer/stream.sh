#!/usr/bin/env bash
# JSON objects separated by blank lines, streamed. Requires curl and an image named large_image.jpg.
# -N keeps curl streaming / not buffering
curl -N -X POST http://localhost:8080/v1/infer \
  -H "Content-Type: application/json" \
  -d @- <<END
{
  "service": "face_detection_stream",
  "task": "face_detector_v1",
  "payload": "$(base64 < large_image.jpg)",
  "correlation_id": "stream-1",
  "metadata": {"detection_confidence_threshold":"0.5"}
}
END
