"""Figures and tables for readers, and the files they are saved in. No torch."""
