"""From measured candidates to a recommendation. Pure: no input, no output, no engine."""
