"""What a measured throughput costs on rented machines: `python -m optimize.price`."""
