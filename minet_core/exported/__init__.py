"""A model as an ONNX file: written for other programs, and run in ONNX Runtime."""
