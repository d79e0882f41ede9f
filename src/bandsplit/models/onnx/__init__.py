"""onnx: TODO."""
