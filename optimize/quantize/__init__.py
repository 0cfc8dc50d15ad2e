"""Quantized checkpoints, made by llm-compressor from recipes: `python -m optimize.quantize`."""
