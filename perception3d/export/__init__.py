"""Writes the ONNX file that a model describes, and compares it with torch."""
