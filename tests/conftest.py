"""Imported before any test: `mmdet` finds its op kernels once det_distill is there."""

import det_distill  # noqa: F401
