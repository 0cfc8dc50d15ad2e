"""Whether a served engine still sees what its study was measured under."""
