"""The paper: its numbers, which studies are its own, where it is silent, what its numbers leave possible. No torch."""
