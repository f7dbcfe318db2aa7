"""The export of a model for serving: ONNX, quantization, the rule for the served precision, temperature scaling."""
