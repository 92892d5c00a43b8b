"""Evaluation protocols that MMDetection lacks."""
