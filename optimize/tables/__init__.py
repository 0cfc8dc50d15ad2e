"""Tables: the measured effect of one knob, or of two together, compared within interleaved rounds."""
