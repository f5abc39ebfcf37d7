"""The volume of the star region around a minimum, from the radii of random directions."""
