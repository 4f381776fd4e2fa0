"""What every part shares: structures, geometry, head specifications, the criterion, the compatibility checks."""
