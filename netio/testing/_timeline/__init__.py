"""Timelines: recording a run, and drawing it."""
