"""What the samplers were offered and what they took: bins, counters on the device, and their summary."""
