"""One configuration measured by hand: what people use before they trust the tuner."""
