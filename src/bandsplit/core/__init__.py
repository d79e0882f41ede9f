"""Ground floor of the package: what every room uses and what knows none of them."""
