"""What all pages share: tables, plots, templates."""
