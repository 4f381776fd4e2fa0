"""Looking at a run: its data, its targets, what its samplers take, its mistakes. Stands aside."""
