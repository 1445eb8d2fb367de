"""Running ONNX models well: sessions, one thread budget, dynamic batches, admission, tuning."""
