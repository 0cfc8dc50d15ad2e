"""What one knob does, or two together, measured: a table per question, compared within interleaved rounds."""
