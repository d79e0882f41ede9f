"""ONNX files: reading and checking them, and the nodes of graphs."""
