"""Decisions on images: conformal p-values, regions, heatmaps, output folders, watched folders."""
