"""What every part shares: structures, geometry, the top-k, bounds of memory, noise, several processes."""
