"""What training a large translation model would cost, and how training scales here."""
