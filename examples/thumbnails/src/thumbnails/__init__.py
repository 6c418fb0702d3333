"""Thumbnails of pictures, and pages of thumbnails."""
