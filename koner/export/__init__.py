"""The export of a model for serving: ONNX, quantization, temperature scaling."""
