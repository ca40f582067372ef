"""Many runs: in one table, and one of them again, from a recipe."""
