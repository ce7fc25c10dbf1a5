"""What SSLA-Det is compared with: other networks behind the same head, trained and judged in the same way."""
