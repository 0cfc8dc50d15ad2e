"""Live engines: launch, watch, reuse and stop them. The only package that knows vLLM."""
