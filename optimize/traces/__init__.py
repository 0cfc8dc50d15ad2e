"""Traces of recorded requests: the forms they are published in, a stretch of one, and fewer of its requests."""
