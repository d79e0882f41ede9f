"""ONNX files: reading them, judging them, and the nodes that graphs are made of."""
