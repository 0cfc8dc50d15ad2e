"""What is kept between studies: checkpoints, compiled kernels, data sets, token counts."""
