"""Denoisers: trained networks that a step table asks, their files and their pretraining."""
