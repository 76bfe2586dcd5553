"""Rules: what loads, what they decide, what is odd about them."""
