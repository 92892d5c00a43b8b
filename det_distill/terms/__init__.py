"""What is compared: responses, features, relations; one file per method. `base`, `maps` and `embeddings` are shared."""
