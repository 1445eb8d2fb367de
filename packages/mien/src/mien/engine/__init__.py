"""Running ONNX models efficiently: sessions, one thread budget, dynamic batching, admission, tuning."""
