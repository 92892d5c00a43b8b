"""Masks and features to look at: pictures, and a page that needs no network."""
