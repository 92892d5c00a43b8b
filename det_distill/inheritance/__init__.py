"""A student that begins as a part of its teacher: which layers, and which of their channels."""
