"""A trained student on its own: a plain checkpoint and config, an ONNX graph."""
