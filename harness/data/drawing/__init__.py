"""How the embedded scenes are drawn."""
