"""What each format calls the source's layers and weights: literal tables, and `Place`."""
