"""What the shop is compared with: small programs, each written and tuned as its users would."""
