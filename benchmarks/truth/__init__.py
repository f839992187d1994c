"""What the accuracy benchmark measures against: worlds with known truth, and how answers are scored."""
