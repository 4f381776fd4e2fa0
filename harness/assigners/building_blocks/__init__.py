"""What several assigners are made of: safe inputs, pairwise costs, the best overlaps, and the matching of pairs."""
