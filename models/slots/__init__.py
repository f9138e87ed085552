"""What models share whose slots are found by learned keys and not by what the rows hold: product keys, a bank of rows, its passes."""
