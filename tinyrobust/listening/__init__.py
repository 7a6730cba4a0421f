"""Listening: a stream of sound through a model file, detections out of it, and how often both kinds of error happen."""
