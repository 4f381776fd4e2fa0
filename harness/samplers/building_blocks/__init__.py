"""What several samplers are made of: a pool of candidates, quotas, rankings, losses as hardness, suppression, slots."""
