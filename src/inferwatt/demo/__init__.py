"""The demo: a real language model on a real server, a load of real questions, and the meter beside them."""
