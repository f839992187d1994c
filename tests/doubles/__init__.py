"""Stand-ins for the libraries of drivers: C that the test compiles, and the page by which it drives them."""
