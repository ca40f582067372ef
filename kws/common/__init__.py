"""What every package may use: errors, seeding, the terminal, atomic files."""
