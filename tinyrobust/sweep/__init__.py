"""Many runs: a grid of recipes, local worker processes, and the comparison of what they found."""
