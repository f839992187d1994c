"""Who used which joules, and how sure we are. Pure: numbers in, numbers out; no clock, no socket, no file."""
