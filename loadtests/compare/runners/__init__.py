"""What runs inside the peers' own environments, which know nothing of Cutover: each file stands alone."""
