"""A sample catalogue made of code, and a guided first run on it."""
