"""What a recipe is: its interface, its options, its runs, and the errors that they raise."""
