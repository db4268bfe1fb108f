"""The interface of a recipe, its options, its runs, and the errors that they raise."""
