"""Data sets to train and judge detectors on; nothing here knows of distillation."""
