"""The cache that studies share: checkpoints, compiled kernels, data sets, token counts."""
