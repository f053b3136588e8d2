"""Tasks: train and test images with labels, and the views of them that a zoo is evaluated on."""
