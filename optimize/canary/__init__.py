"""Whether a candidate may take over from the engine that serves, from pairs of answers to the same requests. Pure."""
