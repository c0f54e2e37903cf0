"""What a deployment is made of: manifests, secrets, the tools that check them."""
