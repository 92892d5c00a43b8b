"""Parts of detectors that MMDetection lacks. Nothing here knows of distillation."""
