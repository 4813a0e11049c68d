"""Exploration of every order of events."""
